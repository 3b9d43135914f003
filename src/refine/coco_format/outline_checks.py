"""Whether an instances JSON belongs to its panoptic JSON: outlines of all things, in place.

A few misfits are in every dataset and are only counted. Many of one kind mean that the file is of
other images, or holds boxes alone: trained on, it would give nothing or nonsense without a word.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from refine.coco_format.annotations import PanopticAnnotations
from refine.coco_format.instances import InstanceAnnotations
from refine.errors import RefineError, Report, refuse

MISFIT_SHARE = 0.25
"""Share of misfits of one kind above which an instances JSON is refused."""

_SAME_BOX_IOU = 0.5
_MOST_EXAMPLES = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfits:
    """Misfits of one kind: their names, out of how many, what they have in common, and the fix."""

    names: list[str]
    total: int
    problem: str
    fix: str

    def judge(self, source: str, report: Report = refuse) -> None:
        """Warn of misfits of the file ``source``; a RefineError if they are too many.

        Another ``report`` than :func:`~refine.errors.refuse` takes every one of them instead.
        """
        if report is not refuse:
            for name in self.names:
                report(self.problem, f"{source}: {self.problem}: {name}; {self.fix}")
        elif self.names:
            examples = ", ".join(self.names[:_MOST_EXAMPLES])
            count = f"{len(self.names)} of {self.total}"
            line = f"{source}: {count} {self.problem} ({examples}); {self.fix}"
            if len(self.names) > MISFIT_SHARE * self.total:
                raise RefineError(line)
            _log.warning("%s", RefineError(line))


def find_misfits(
    panoptic: PanopticAnnotations, instances: InstanceAnnotations
) -> Iterator[Misfits]:
    """What does not fit together in the two files, one kind after the other."""
    strangers = instances.strangers.tolist()
    yield Misfits(
        names=[f"image id {i}" for i in strangers],
        total=len(instances) + len(strangers),
        problem="annotations are of images that no list has",
        fix="number the images as in the panoptic JSON",
    )
    owners = np.repeat(panoptic.image_ids, np.diff(panoptic.offsets))
    is_thing = panoptic.segment_categories < panoptic.categories.num_things
    with_things = np.unique(owners[is_thing & ~panoptic.segment_crowds])
    bare = np.setdiff1d(with_things, instances.image_ids).tolist()
    yield Misfits(
        names=[f"image id {i}" for i in bare],
        total=len(with_things),
        problem="images with things have no instance",
        fix="annotate their outlines, or remove this file to train on visible regions",
    )
    bounds = instances.outline_boxes()
    is_empty = np.isnan(bounds[:, 0])
    yield Misfits(
        names=_name_annotations(instances, is_empty),
        total=len(instances),
        problem="instances have no outline",
        fix="give them a 'segmentation', or remove this file to train on visible regions",
    )
    yield Misfits(
        names=_name_annotations(instances, ~is_empty & ~_is_alike(bounds, instances.boxes)),
        total=int((~is_empty).sum()),
        problem="outlines do not fit their own 'bbox'",
        fix="make 'segmentation' and 'bbox' [x, y, width, height] agree",
    )


def _name_annotations(instances: InstanceAnnotations, chosen: np.ndarray) -> list[str]:
    columns = instances.ids[chosen].tolist(), instances.image_ids[chosen].tolist()
    return [f"annotation id {a} of image id {i}" for a, i in zip(*columns, strict=True)]


def _is_alike(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """``[n]`` bool: the xyxy boxes have an IoU of at least a half, or differ by a pixel or two."""
    sides = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])
    common = sides.clip(0).prod(axis=1)
    areas = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, others)]
    is_near = (np.abs(boxes - others) <= 2).all(axis=1)  # tiny ones, counted in whole pixels
    alike: np.ndarray = is_near | (common >= _SAME_BOX_IOU * (areas[0] + areas[1] - common))
    return alike
