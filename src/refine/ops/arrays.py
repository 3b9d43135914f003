"""Arrays of whatever a caller holds, and runs of equal pixels in maps of labels."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from torch import Tensor


def to_array(values: "ArrayLike | Tensor") -> np.ndarray:
    """Array of a tensor on any device, of nested lists or of an array; half precision as float32.

    Raises:
        ValueError: Lists of unequal lengths.
    """
    import torch  # not above: what looks for runs must start without it

    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    host = values.detach().cpu()
    return (host.float() if host.dtype in (torch.bfloat16, torch.float16) else host).numpy()


def find_label_runs(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``[R]`` values and int64 lengths of the runs of a ``[H, W]`` map, each inside its row."""
    flat = labels.ravel()
    is_end = flat[1:] != flat[:-1]
    is_end[labels.shape[1] - 1 :: labels.shape[1]] = True
    starts = np.concatenate([[0], np.flatnonzero(is_end) + 1])
    return flat[starts], np.diff(starts, append=flat.size)


def find_label_boxes(labels: np.ndarray) -> dict[int, tuple[int, int, int, int]]:
    """(top, left, bottom, right), last two exclusive, of each value of a ``[H, W]`` map."""
    return find_value_boxes(*find_label_runs(labels), (labels.shape[0], labels.shape[1]))


def find_value_boxes(
    values: np.ndarray, lengths: np.ndarray, shape: tuple[int, int]
) -> dict[int, tuple[int, int, int, int]]:
    """The same of the runs that :func:`find_label_runs` finds in a map of this shape."""
    highest = values.max(initial=0)
    if highest < len(values):  # compact ids: no need to search
        found, keys = np.arange(highest + 1), values
    else:
        found, keys = np.unique(values, return_inverse=True)
    boxes = find_run_boxes(keys, lengths, shape).tolist()
    return {k: tuple(box) for k, box in zip(found.tolist(), boxes, strict=True) if box[2]}


def find_best_columns(scores: "Tensor") -> "Tensor":
    """``[N]`` int64 column of the largest value, the first one, in each row of ``[N, C]`` scores.

    On the host numpy finds it five times faster than torch.
    """
    import torch

    if scores.device.type == "cpu":
        return torch.from_numpy(scores.numpy().argmax(axis=1))
    return scores.argmax(dim=1)


def find_run_boxes(keys: np.ndarray, lengths: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """``[K, 4]`` int64 (top, left, bottom, right), last two exclusive, of the keys ``0 .. K - 1``.

    Each of R runs has a key and a length in pixels; the box of a key without a run is meaningless.
    """
    rows, columns = np.divmod(np.cumsum(lengths) - lengths, shape[1])
    first = np.full((2, keys.max() + 1), max(shape))
    last = np.zeros_like(first)
    for axis, low, high in ((0, rows, rows + 1), (1, columns, columns + lengths)):
        np.minimum.at(first[axis], keys, low)
        np.maximum.at(last[axis], keys, high)
    return np.concatenate([first, last]).T
