"""Maps of labels as runs of equal pixels.

A map of some hundred thousand pixels has a few thousand runs, so what is looked up or checked for
each value is done on the runs.
"""

import numpy as np


def find_label_runs(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut a ``[H, W]`` map row by row into runs of one value, each inside its row.

    Returns:
        The ``[R]`` values and the ``[R]`` int64 lengths of the runs in pixels.
    """
    flat = labels.ravel()
    is_end = flat[1:] != flat[:-1]
    is_end[labels.shape[1] - 1 :: labels.shape[1]] = True
    starts = np.concatenate([[0], np.flatnonzero(is_end) + 1])
    return flat[starts], np.diff(starts, append=flat.size)


def find_run_boxes(keys: np.ndarray, lengths: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The bounding box of every key ``0 .. K - 1``.

    Args:
        keys: ``[R]`` int64 key of each run.
        lengths: ``[R]`` int64 length of each run in pixels.
        shape: ``(height, width)`` of the map.

    Returns:
        ``[K, 4]`` int64 (top, left, bottom, right), the last two exclusive; meaningless for a key
        without a run.
    """
    rows, columns = np.divmod(np.cumsum(lengths) - lengths, shape[1])
    first = np.full((2, keys.max() + 1), max(shape))
    last = np.zeros_like(first)
    for axis, low, high in ((0, rows, rows + 1), (1, columns, columns + lengths)):
        np.minimum.at(first[axis], keys, low)
        np.maximum.at(last[axis], keys, high)
    return np.concatenate([first, last]).T
