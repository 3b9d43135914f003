import contextlib
import os
import pickle
import shlex
from collections import OrderedDict

import numpy as np
import pytest
import torch

from make.errors import refused
from make.weights import write_pickle
from refine.errors import RefineError
from refine.weights.formats import read_weights
from refine.weights.pickles import read_pickle


class _Runs:
    """Asks the reader to call something."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_arrays_and_plain_containers_come_back(tmp_path, protocol):
    content = OrderedDict(
        a=np.arange(6, dtype=np.float32).reshape(2, 3),
        b=[1, 2.5, None, True, "text", b"bytes"],
        c={"scalar": np.float64(3.5), "empty": np.zeros((0, 4)), "tuple": (1, 2)},
    )
    result = read_pickle(write_pickle(tmp_path / "w.pkl", content, protocol))
    assert isinstance(result, OrderedDict)
    np.testing.assert_array_equal(result["a"], content["a"])
    assert result["b"] == content["b"]
    assert result["c"]["scalar"] == 3.5
    assert result["c"]["empty"].shape == (0, 4)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_would_run_code_is_refused_before_it_does(tmp_path, protocol, nested):
    mark = tmp_path / "mark"
    evil = _Runs(os.system, f"touch {shlex.quote(str(mark))}")
    path = write_pickle(tmp_path / "w.pkl", {"conv1_w": [evil]} if nested else evil, protocol)
    with refused("w.pkl: refused", "system"):
        read_weights(path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists(), "the test's pickle does run code"


@pytest.mark.parametrize(
    "function", [eval, exec, getattr, __import__, open, np.load, np.fromfile, pickle.loads]
)
def test_nothing_but_arrays_can_be_called(tmp_path, function):
    with refused("refused"):
        read_pickle(write_pickle(tmp_path / "w.pkl", _Runs(function, "x")))


def test_a_torch_file_that_would_run_code_is_refused(tmp_path):
    mark = tmp_path / "mark"
    torch.save(
        {"conv1.weight": _Runs(os.system, f"touch {shlex.quote(str(mark))}")}, tmp_path / "w.pth"
    )
    with refused("w.pth: not a readable state dict (UnpicklingError); download it again"):
        read_weights(tmp_path / "w.pth")
    assert not mark.exists()


@pytest.mark.parametrize("length", [0, 1, 10, 100, -2])
def test_damaged_pickles_are_refused(tmp_path, length):
    whole = pickle.dumps({"conv1_w": np.zeros((4, 3, 7, 7), np.float32)}, 2)
    (tmp_path / "w.pkl").write_bytes(whole[:length])
    with refused("w.pkl"):
        read_pickle(tmp_path / "w.pkl")


@pytest.mark.parametrize("seed", range(30))
def test_flipped_bytes_raise_nothing_else(tmp_path, seed):
    rng = np.random.default_rng(seed)
    raw = bytearray(pickle.dumps({"a": np.zeros(8, np.float32), "b": [1, "x"]}, 2))
    for place in rng.integers(0, len(raw), 3):
        raw[place] = int(rng.integers(0, 256))
    (tmp_path / "w.pkl").write_bytes(bytes(raw))
    with contextlib.suppress(RefineError):
        read_pickle(tmp_path / "w.pkl")
