"""Whether the outlines of an instances JSON lie where the panoptic PNGs have their segments."""

from collections.abc import Iterator

import numpy as np

from refine.coco_format.layout import DatasetFiles
from refine.coco_format.outline_checks import Misfits
from refine.coco_format.segment_runs import SegmentRuns
from refine.data.rows import ImageRow, original_mask, read_row
from refine.fusion.overlaps import shared_window
from refine.types import MaskCrop

NUM_SAMPLES = 16
"""Images that :func:`check_outline_fit` looks at: another file's outlines fit in none."""

_COVERED_SHARE = 0.5


def check_outline_fit(files: DatasetFiles, rows: np.ndarray) -> None:
    """Compare outlines with the segments of some of these images (positions in the JSON).

    Raises:
        RefineError: Many of the segments have no outline that covers them, or a PNG is damaged.
    """
    if files.instances is None:
        return
    with_outlines = np.isin(files.annotations.image_ids[rows], files.instances.image_ids)
    candidates = rows[with_outlines]
    chosen = np.linspace(0, len(candidates) - 1, min(NUM_SAMPLES, len(candidates))).astype(int)
    images = (read_row(files, int(k)) for k in candidates[chosen])
    found = [pair for row in images for pair in find_uncovered(row, row.read_runs(files.pngs))]
    misfits = Misfits(
        names=[name for name, is_covered in found if not is_covered],
        total=len(found),
        problem="segments of things have no outline that covers them, in a sample",
        fix="take the file of the same images, or remove it to train on visible regions",
    )
    misfits.judge(files.instances.source)


def find_uncovered(row: ImageRow, runs: SegmentRuns) -> Iterator[tuple[str, bool]]:
    """Thing segments with pixels of an image, and whether an outline covers half of each."""
    crops = [
        (a.category, crop)
        for a in row.instances or ()
        if not a.is_crowd and (crop := original_mask(a.outline, row.size)) is not None
    ]
    visible = set(np.unique(runs.places).tolist())
    things = [k for k, s in enumerate(row.segments, start=1) if s.is_thing and not s.is_crowd]
    places = [k for k in things if k in visible]
    for place, segment in zip(places, runs.find_crops(places), strict=True):
        category = row.segments[place - 1].category
        shares = (_share(segment, crop) for other, crop in crops if other == category)
        name = f"segment id {row.segments[place - 1].id} of image id {row.image_id}"
        yield name, max(shares, default=0.0) >= _COVERED_SHARE


def _share(segment: MaskCrop, outline: MaskCrop) -> float:
    """Share of a segment's pixels that an outline covers."""
    _, _, both = shared_window(segment, outline)
    return float(np.count_nonzero(both) / np.count_nonzero(segment.mask))
