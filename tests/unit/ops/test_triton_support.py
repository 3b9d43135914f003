"""Whether Triton can be used: what does not work is said, and PyTorch's operations are left."""

import sys
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from refine.ops import triton_support


@pytest.fixture
def gpu(monkeypatch):
    """A machine that says it has a GPU and Triton; tensors are the host's all the same."""
    monkeypatch.delenv("REFINE_TRITON", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(triton_support.importlib.util, "find_spec", lambda name: name)
    for name in ("arange", "tensor"):
        make = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *a, make=make, device=None: make(*a))
    triton_support.is_available.cache_clear()
    yield lambda mix: monkeypatch.setitem(
        sys.modules, "refine.ops.norm_kernels", SimpleNamespace(mix=mix)
    )
    triton_support.is_available.cache_clear()


def _mix(x, y, factors):
    a, b, c = factors[..., None, None].unbind(1)
    return a * x + b * y + c


def test_kernels_are_used_where_one_is_right(gpu, recwarn, monkeypatch):
    gpu(_mix)
    assert triton_support.is_available()
    assert not recwarn
    triton_support.is_available.cache_clear()
    monkeypatch.setenv("REFINE_TRITON", "0")
    assert not triton_support.is_available()
    assert not recwarn


def test_a_kernel_that_is_wrong_or_fails_is_said(gpu):
    gpu(lambda x, y, factors: _mix(x, y, factors) + 1)
    with pytest.warns(UserWarning, match="a kernel gave a wrong answer"):
        assert not triton_support.is_available()
    triton_support.is_available.cache_clear()

    gpu(Mock(side_effect=RuntimeError("no C compiler\nand more")))
    with pytest.warns(UserWarning, match=r"RuntimeError: no C compiler\): training is slower"):
        assert not triton_support.is_available()
    triton_support.is_available.cache_clear()
    gpu(Mock(side_effect=PermissionError(13, "Permission denied", "/.triton")))
    with pytest.warns(UserWarning, match=r"denied: '/.triton'; TRITON_CACHE_DIR=FOLDER chooses"):
        assert not triton_support.is_available()
