"""The occlusion pairs of a whole split, by many processes.

A process holds the directory of the PNGs and one chunk of images with their annotations, some
megabytes, whatever the size of the dataset. The result does not depend on the number of processes.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
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

_AHEAD = 8  # chunks per process that are read at a time

_Found = dict[int, list[OrderedPair]]


def build_pairs(
    files: DatasetFiles,
    *,
    overlap_thresh: float,
    num_processes: int = 1,
    progress: Callable[[int], None] | None = None,
) -> OcclusionPairs:
    """Order the overlapping instances of every image of a split (see :func:`find_pairs`).

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
    num_processes = min(num_processes, -(-len(files.annotations) // IMAGES_PER_PROCESS))
    found: _Found = {}
    for chunk in _search(files, overlap_thresh, num_processes):
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


def _search(files: DatasetFiles, overlap_thresh: float, num_processes: int) -> Iterator[_Found]:
    rows = (read_row(files, k) for k in range(len(files.annotations)))
    chunks = iter(lambda: list(islice(rows, CHUNK)), [])
    if num_processes <= 1:
        for chunk in chunks:
            yield _find(chunk, files.pngs, overlap_thresh)
        return
    pool = ProcessPoolExecutor(
        num_processes,
        mp_context=get_context("spawn"),  # a fork of a process that holds threads may hang
        initializer=_start_process,
        initargs=(files.pngs, overlap_thresh),
    )
    with pool:
        try:
            # given all chunks, the pool would hold them all at once
            while some := list(islice(chunks, _AHEAD * num_processes)):
                yield from pool.map(_find_chunk, some)
        except BrokenProcessPool:
            raise RefineError(
                "a process that looked for occlusion pairs died (out of memory?); use fewer"
            ) from None


_shared: list[Any] = []  # in a worker process: PNGs and threshold, sent once, not with every chunk


def _start_process(*shared: Any) -> None:
    _shared[:] = shared


def _find_chunk(rows: Sequence[ImageRow]) -> _Found:
    return _find(rows, *_shared)


def _find(rows: Sequence[ImageRow], pngs: Storage, overlap_thresh: float) -> _Found:
    return {
        row.image_id: find_pairs(row, partial(row.read_runs, pngs), overlap_thresh) for row in rows
    }
