"""Connected components of dilated masks, without dilating and without labelling pixels.

Dilate a mask by a square of radius ``r`` and label the result with 4-connectivity: two of the
mask's own pixels lie in one component if their squares overlap or share an edge, that is if
``dx <= 2r + 1`` and ``dy <= 2r``, or ``dx <= 2r`` and ``dy <= 2r + 1``; or if a chain of such pairs
leads from one to the other. (The image's border cuts squares but separates none.)

So the image is cut into strips of ``2r + 1`` rows. Within a strip ``dy`` is never too large, and
columns alone tell which pixels belong together: a column further than ``2r + 1`` from the one
before it starts a new node. Between neighbouring strips only the lowest pixel of each column above
and the highest pixel of each column below matter; strips further apart never touch.
"""

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import maximum_filter1d
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from refine.types import IGNORE_INDEX

_FAR = 2**29  # further than any row or column; the sum of two fits into int32
_PIXELS_A_PASS = 16_384


def label_dilated(categories: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Label every pixel by the component of its category's dilated mask that it lies in.

    Args:
        categories: ``[H, W]`` uint8; pixels of 255 belong to no component.
        radius: Radius in pixels (Chebyshev distance) of the square that dilates, at least 0.

    Returns:
        ``[H, W]`` unsigned labels ``1 .. R``, 0 at pixels of 255; and ``[R]`` uint8 categories.
    """
    reach = 2 * radius + 1
    values = np.unique(categories)
    values = values[values != IGNORE_INDEX]
    highest, lowest = _profile(categories, values, reach=reach)
    is_start = _node_starts(lowest >= 0, reach=reach)
    nodes = is_start.cumsum(dtype=np.int32).reshape(is_start.shape)
    links = np.concatenate(list(_links(highest, lowest, nodes, reach=reach)), axis=1)
    count = int(is_start.sum()) + 1
    graph = coo_array((np.ones(links.shape[1], bool), (links[0], links[1])), shape=(count, count))
    # of node 0, which is no node, comes component 0
    components = connected_components(graph, directed=False)[1].astype(
        np.min_scalar_type(count - 1)
    )
    of_column = components[np.where(lowest >= 0, nodes, 0)]
    labels = np.empty(categories.shape, of_column.dtype)
    for rows, slots in _slots(categories, values, reach=reach):
        labels[rows] = of_column.take(slots)
    found = np.empty(components.max(), np.uint8)
    found[components[1:] - 1] = values[np.nonzero(is_start)[1]]
    return labels, found


def _slots(
    categories: np.ndarray, values: np.ndarray, *, reach: int
) -> Iterator[tuple[slice, np.ndarray]]:
    """Some rows at a time: each pixel's place in a flat ``[S, K + 1, W]``; index K is for 255."""
    height, width = categories.shape
    index = np.full(IGNORE_INDEX + 1, len(values))
    index[values] = np.arange(len(values))
    step = max(_PIXELS_A_PASS // width, 1)
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        strips = np.arange(rows.start, rows.stop)[:, None] // reach
        slots = index[categories[rows]]
        slots += strips * (len(values) + 1)
        slots *= width
        slots += np.arange(width)
        yield rows, slots


def _profile(
    categories: np.ndarray, values: np.ndarray, *, reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """``[S, K + 1, W]`` int32: first and last row of a category in a column of a strip, or _FAR."""
    height, width = categories.shape
    shape = (-(-height // reach), len(values) + 1, width)
    highest, lowest = np.full(shape, _FAR, np.int32), np.full(shape, -_FAR, np.int32)
    for rows, slots in _slots(categories, values, reach=reach):
        row = np.repeat(np.arange(rows.start, rows.stop, dtype=np.int32), width)
        np.minimum.at(highest.reshape(-1), slots.reshape(-1), row)
        np.maximum.at(lowest.reshape(-1), slots.reshape(-1), row)
    highest[:, -1], lowest[:, -1] = _FAR, -_FAR
    return highest, lowest


def _node_starts(is_held: np.ndarray, *, reach: int) -> np.ndarray:
    """Where a column holds the category and none of the ``reach`` columns before it does."""
    columns = np.where(is_held, np.arange(is_held.shape[-1], dtype=np.int32), -_FAR)
    before = np.full_like(columns, -_FAR)
    np.maximum.accumulate(columns[..., :-1], axis=-1, out=before[..., 1:])
    return is_held & (columns - before > reach)


def _links(
    highest: np.ndarray, lowest: np.ndarray, nodes: np.ndarray, *, reach: int
) -> Iterator[np.ndarray]:
    """``[2, n]`` pairs of nodes of neighbouring strips that hold pixels whose squares touch.

    A window of ``dx + 1 <= reach + 1`` columns holds one node of a category at most. So its lowest
    pixel decides for the node, which is what ``nodes`` says at the window's end.
    """
    columns = np.arange(nodes.shape[-1])
    for dx, dy in ((reach, reach - 1), (reach - 1, reach)):
        lowest_near = maximum_filter1d(
            lowest[:-1], dx + 1, origin=dx // 2, mode="constant", cval=-_FAR
        )
        for ends in (columns, np.minimum(columns + dx, columns[-1])):
            is_near = highest[1:] - lowest_near[..., ends] <= dy
            pairs = np.stack([nodes[:-1, :, ends][is_near], nodes[1:][is_near]])
            is_repeat = (pairs[:, 1:] == pairs[:, :-1]).all(axis=0)
            yield np.delete(pairs, np.flatnonzero(is_repeat), axis=1)
