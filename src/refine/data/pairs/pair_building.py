"""The occlusion pairs of a whole split, by many processes.

A process holds the directory of the PNGs and one chunk of images with their annotations, some
megabytes, whatever the size of the dataset. What it finds does not depend on how many there are.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context

import numpy as np

from refine.coco_format.instances import InstanceAnnotation, InstanceAnnotations
from refine.coco_format.layout import DatasetFiles
from refine.coco_format.storage import Storage
from refine.data.pairs.occlusion_pairs import OcclusionPairs, OrderedPair, find_pairs
from refine.data.rows import instances_of_image, read_runs
from refine.data.segment_runs import SegmentRuns
from refine.errors import RefineError
from refine.types import Segment

CHUNK = 64
"""Images that a process is given at a time."""

_IMAGES_A_PROCESS = 500  # fewer are done before another process has started


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """The annotations of one image."""

    image_id: int
    png_name: str
    size: tuple[int, int]
    segments: tuple[Segment, ...]
    annotations: tuple[InstanceAnnotation, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """What all images share."""

    pngs: Storage
    json_name: str
    overlap_thresh: float

    def find(self, row: _Row) -> list[OrderedPair]:
        def read_map() -> SegmentRuns:
            return read_runs(
                self.pngs,
                row.png_name,
                segments=row.segments,
                size=row.size,
                json_name=self.json_name,
            )

        return find_pairs(
            row.annotations,
            row.segments,
            read_map=read_map,
            size=row.size,
            overlap_thresh=self.overlap_thresh,
        )


def build_pairs(
    files: DatasetFiles,
    *,
    overlap_thresh: float,
    num_processes: int = 1,
    progress: Callable[[int], None] | None = None,
) -> OcclusionPairs:
    """Order the overlapping instances of every image (:func:`find_pairs` says how).

    Args:
        files: The split.
        overlap_thresh: A share in [0, 1] (rho).
        num_processes: At most; small splits take fewer.
        progress: Called with the number of images that have been done since its last call.

    Raises:
        RefineError: There are no instances, or two of one id; a file is missing, damaged or does
            not fit the JSON; or a process died.
    """
    instances = require_instances(files)
    _refuse_repeats(instances)
    source = _Source(files.pngs, files.annotations.source, overlap_thresh)
    num_processes = min(num_processes, -(-len(files.annotations) // _IMAGES_A_PROCESS))
    found: dict[int, list[OrderedPair]] = {}
    for chunk in _search(source, _rows(files, instances), num_processes=num_processes):
        found.update(chunk)
        if progress is not None:
            progress(len(chunk))
    return OcclusionPairs.from_images(found)


def require_instances(files: DatasetFiles) -> InstanceAnnotations:
    """The instance annotations of a split.

    Raises:
        RefineError: It has none.
    """
    if files.instances is None:
        raise RefineError(
            f"{files.annotations.source}: there is no instances JSON with it, and without full "
            "outlines nothing tells which instance lies on top (segments of a panoptic map never "
            "overlap): no occlusion head can be trained on this dataset; add the file, or choose "
            "relations that need no training (score, area, shr)"
        )
    return files.instances


def _refuse_repeats(instances: InstanceAnnotations) -> None:
    ids = np.sort(instances.ids)
    twice = ids[1:][ids[1:] == ids[:-1]]
    if len(twice):
        raise RefineError(
            f"{instances.source}: annotation id {twice[0]} stands there twice; give every "
            "annotation its own"
        )


def _rows(files: DatasetFiles, instances: InstanceAnnotations) -> Iterator[_Row]:
    annotations = files.annotations
    for k, image_id in enumerate(annotations.image_ids.tolist()):
        height, width = annotations.sizes[k].tolist()
        yield _Row(
            image_id=image_id,
            png_name=str(annotations.file_names[k]),
            size=(height, width),
            segments=annotations.segments(k),
            annotations=instances_of_image(instances, image_id, (height, width)),
        )


_Found = dict[int, list[OrderedPair]]


def _search(source: _Source, rows: Iterator[_Row], *, num_processes: int) -> Iterator[_Found]:
    chunks = iter(lambda: list(islice(rows, CHUNK)), [])
    if num_processes <= 1:
        yield from ({row.image_id: source.find(row) for row in chunk} for chunk in chunks)
        return
    pool = ProcessPoolExecutor(
        num_processes,
        mp_context=get_context("spawn"),  # a fork of a process that holds threads may hang
        initializer=_start_process,
        initargs=(source,),
    )
    with pool:
        try:
            yield from _in_order(pool, chunks, ahead=2 * num_processes)
        except BrokenProcessPool:
            raise RefineError(
                "a process that looked for occlusion pairs died (out of memory?); use fewer"
            ) from None


def _in_order(
    pool: ProcessPoolExecutor, chunks: Iterable[Sequence[_Row]], *, ahead: int
) -> Iterator[_Found]:
    """The answers in the order of the chunks; the pool's own map would hold them all at once."""
    waiting: deque[Future[_Found]] = deque()
    for chunk in chunks:
        waiting.append(pool.submit(_find_chunk, chunk))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


_source: _Source | None = None  # of a worker process; sent once, not with every chunk


def _start_process(source: _Source) -> None:
    global _source
    _source = source


def _find_chunk(chunk: Sequence[_Row]) -> _Found:
    if _source is None:
        raise ValueError("this process has not been started by build_pairs")
    return {row.image_id: _source.find(row) for row in chunk}
