"""Arrays of whatever a caller holds."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


def to_array(values: ArrayLike | Tensor) -> np.ndarray:
    """Array of a tensor on any device, of nested lists or of an array; half precision as float32.

    Raises:
        ValueError: Lists of unequal lengths.
    """
    if not isinstance(values, Tensor):
        return np.asarray(values)
    host = values.detach().cpu()
    return (host.float() if host.dtype in (torch.bfloat16, torch.float16) else host).numpy()
