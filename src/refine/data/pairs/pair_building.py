"""The occlusion pairs of a whole split, by many processes.

A process holds the directory of the PNGs and one chunk of images with their annotations, some
megabytes, whatever the size of the dataset. The result does not depend on the number of processes.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from multiprocessing import get_context
from typing import Any

import numpy as np

from refine.coco_format.instances import InstanceAnnotations
from refine.coco_format.layout import DatasetFiles
from refine.coco_format.storage import Storage
from refine.data.pairs.occlusion_pairs import OcclusionPairs, OrderedPair, find_pairs
from refine.data.rows import ImageRow, read_row
from refine.errors import RefineError

CHUNK = 64
"""Number of images that a process is given at a time."""

IMAGES_PER_PROCESS = 500
"""Smallest share of a split for which another process is started: fewer images are done sooner."""

_Found = dict[int, list[OrderedPair]]


def _find(rows: Sequence[ImageRow], pngs: Storage, overlap_thresh: float) -> _Found:
    return {
        row.image_id: find_pairs(
            row.instances or (),
            row.segments,
            read_map=partial(row.read_runs, pngs),
            size=row.size,
            overlap_thresh=overlap_thresh,
        )
        for row in rows
    }


def build_pairs(
    files: DatasetFiles,
    *,
    overlap_thresh: float,
    num_processes: int = 1,
    progress: Callable[[int], None] | None = None,
) -> OcclusionPairs:
    """Order the overlapping instances of every image (see :func:`find_pairs`).

    Args:
        files: The split.
        overlap_thresh: Smallest share of either outline (rho), in [0, 1].
        num_processes: Maximum number of processes; small splits take fewer.
        progress: Called with the number of images that have been done since its last call.

    Raises:
        RefineError: There are no instances, or two with the same id; a file is missing, damaged or
            does not fit the JSON; or a process died.
    """
    instances = require_instances(files)
    values, counts = np.unique(instances.ids, return_counts=True)
    if len(values) != len(instances):
        raise RefineError(
            f"{instances.source}: annotation id {values[counts > 1][0]} occurs twice; give every "
            "annotation its own"
        )
    rows = (read_row(files, k) for k in range(len(files.annotations)))
    num_processes = min(num_processes, -(-len(files.annotations) // IMAGES_PER_PROCESS))
    found: _Found = {}
    for chunk in _search(rows, files.pngs, overlap_thresh, num_processes=num_processes):
        found.update(chunk)
        if progress is not None:
            progress(len(chunk))
    return OcclusionPairs.from_images(found)


def require_instances(files: DatasetFiles) -> InstanceAnnotations:
    """The instance annotations of a split; a RefineError if it has none."""
    if files.instances is None:
        raise RefineError(
            f"{files.annotations.source}: there is no instances JSON with it, and without full "
            "outlines nothing tells which instance lies on top (segments of a panoptic map never "
            "overlap): no occlusion head can be trained on this dataset; add the file, or choose "
            "relations that need no training (score, area, shr)"
        )
    return files.instances


def _search(
    rows: Iterator[ImageRow], pngs: Storage, overlap_thresh: float, *, num_processes: int
) -> Iterator[_Found]:
    chunks = iter(lambda: list(islice(rows, CHUNK)), [])
    if num_processes <= 1:
        yield from (_find(chunk, pngs, overlap_thresh) for chunk in chunks)
        return
    pool = ProcessPoolExecutor(
        num_processes,
        mp_context=get_context("spawn"),  # a fork of a process that holds threads may hang
        initializer=_start_process,
        initargs=(pngs, overlap_thresh),
    )
    with pool:
        try:
            yield from _in_order(pool, chunks, ahead=2 * num_processes)
        except BrokenProcessPool:
            raise RefineError(
                "a process that looked for occlusion pairs died (out of memory?); use fewer"
            ) from None


def _in_order(
    pool: ProcessPoolExecutor, chunks: Iterable[Sequence[ImageRow]], *, ahead: int
) -> Iterator[_Found]:
    """The answers in the order of the chunks; the pool's own map would hold them all at once."""
    waiting: deque[Future[_Found]] = deque()
    for chunk in chunks:
        waiting.append(pool.submit(_find_chunk, chunk))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


_shared: list[Any] = []  # in a worker process: PNGs and threshold, sent once, not with every chunk


def _start_process(*shared: Any) -> None:
    _shared[:] = shared


def _find_chunk(rows: Sequence[ImageRow]) -> _Found:
    return _find(rows, *_shared)
