"""How often rules that need no occlusion head would order true pairs right."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torchvision.ops import box_iou

from refine.coco_format.instances import InstanceAnnotation
from refine.coco_format.layout import DatasetFiles
from refine.data.pairs.occlusion_pairs import OcclusionPairs
from refine.data.rows import ImageRow, original_mask, read_row
from refine.fusion.evidence import to_original_boxes
from refine.types import RawPrediction

_MIN_IOU = 0.5


def outline_areas(files: DatasetFiles, pairs: OcclusionPairs) -> np.ndarray:
    """The sizes of the full outlines, for "the smaller is on top".

    The result is ``[K, 2]`` float64 original pixels, of each pair's upper and lower instance.
    """

    def measure(row: ImageRow, known: Sequence[InstanceAnnotation]) -> list[float]:
        crops = (original_mask(a.outline, row.size) for a in known)
        return [0.0 if crop is None else float(np.count_nonzero(crop.mask)) for crop in crops]

    return _of_members(files, pairs, measure)


def detection_scores(
    files: DatasetFiles, pairs: OcclusionPairs, read: Callable[[int], RawPrediction]
) -> np.ndarray:
    """The scores of the detections that stand for the instances, for "the higher is on top".

    By descending score, each detection stands for the instance of its category with the highest box
    IoU that none stands for yet, if that is at least 1/2. ``read`` gives the prediction of an id.

    The result is ``[K, 2]`` float64 in [0, 1], of each pair's upper and lower instance; NaN for
    those that are not detected.
    """

    def match(row: ImageRow, known: Sequence[InstanceAnnotation]) -> list[float]:
        raw = read(row.image_id)
        boxes = torch.tensor([a.box for a in known], dtype=torch.float32)
        labels = torch.tensor([a.category for a in known])
        order = torch.argsort(raw.scores, descending=True, stable=True)
        iou = box_iou(to_original_boxes(raw)[order], boxes) * (raw.labels[order, None] == labels)
        scores = [float("nan")] * len(known)
        for overlaps, score in zip(iou, raw.scores[order].tolist(), strict=True):
            k = int(overlaps.argmax())
            if overlaps[k] >= _MIN_IOU:
                scores[k] = score
                iou[:, k] = 0
        return scores

    return _of_members(files, pairs, match)


def _of_members(
    files: DatasetFiles,
    pairs: OcclusionPairs,
    evaluate: Callable[[ImageRow, Sequence[InstanceAnnotation]], list[float]],
) -> np.ndarray:
    """``[K, 2]`` values of the upper and of the lower instance of each pair.

    ``evaluate`` gives one value for each annotation of an image that is no crowd.
    """
    values: dict[int, float] = {}
    for k in np.flatnonzero(np.isin(files.annotations.image_ids, pairs.image_ids)).tolist():
        row = read_row(files, k)
        known = [a for a in row.instances or () if not a.is_crowd]
        values.update(zip((a.id for a in known), evaluate(row, known), strict=True))
    members = [[values[upper], values[lower]] for upper, lower in pairs.ordered.tolist()]
    return np.array(members).reshape(-1, 2)
