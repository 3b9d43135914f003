"""Whether our Triton kernels can be used: a GPU, Triton, and the compiler that Triton needs."""

import importlib.util
import os
import warnings
from functools import cache

import torch


@cache
def is_available() -> bool:
    """True if a kernel compiled here gives the right answer on the GPU.

    PyTorch's own operations do the same work without them, more slowly; the environment variable
    ``REFINE_TRITON=0`` chooses these.
    """
    if not torch.cuda.is_available() or importlib.util.find_spec("triton") is None:
        return False
    if os.environ.get("REFINE_TRITON") == "0":
        return False
    try:
        from refine.ops.norm_kernels import mix

        x = torch.arange(24.0, device="cuda").view(1, 2, 3, 4).to(memory_format=torch.channels_last)
        factors = torch.tensor([1.0, 1.0, 3.0], device="cuda").view(1, 3, 1).expand(1, 3, 2)
        is_right = torch.equal(mix(x, x, factors.contiguous()), 2 * x + 3)
        fault = "" if is_right else "a kernel gave a wrong answer"
    except Exception as error:  # of a compiler, a driver, a device: any kind
        reason = str(error).strip().partition("\n")[0][:150]
        fault = f"{type(error).__name__}: {reason}"
        if isinstance(error, OSError):  # of ~/.triton, in a home that is not one's own
            fault += "; TRITON_CACHE_DIR=FOLDER chooses another folder"
    if fault:
        warnings.warn(
            f"Triton does not work here ({fault}): training is slower; "
            "REFINE_TRITON=0 does without it and this line",
            stacklevel=2,
        )
    return not fault


@cache
def has_matrix_units() -> bool:
    """Whether our kernels can be used that multiply matrices in NVIDIA's TF32 or bfloat16."""
    is_nvidia = is_available() and torch.version.hip is None
    return is_nvidia and torch.cuda.get_device_capability() >= (8, 0)
