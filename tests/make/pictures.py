"""Small scenes to draw: a category table, panoptic maps, predictions of rectangles."""

from functools import partial

import numpy as np
import torch

from refine.categories import CategoryTable
from refine.types import GroundTruth, PanopticPrediction, RawPrediction, Segment

CAT, DOG, GRASS = range(3)
RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)
CATEGORIES = CategoryTable.of(
    [
        {"id": 1, "name": "cat", "isthing": 1, "color": RED},
        {"id": 2, "name": "dog", "isthing": 1, "color": BLUE},
        {"id": 3, "name": "grass", "isthing": 0, "color": GREEN},
    ]
)


def _panoptic(kind, segment_map, category_of, crowds=()):
    segment_map = np.array(segment_map, np.int32)
    segments = []
    for k, category in category_of.items():
        is_thing, area = category != GRASS, int((segment_map == k).sum())
        fields = {"is_thing": is_thing, "area": area, "is_crowd": k in crowds}
        segments.append(Segment(id=k, category=category, **fields))
    return kind(segment_map=segment_map, segments=tuple(segments))


truth = partial(_panoptic, GroundTruth)
"""Ground truth of a segment map, categories by id and, if wanted, ids of crowds."""
prediction = partial(_panoptic, PanopticPrediction)


def grey_image(size):
    return np.full((*size, 3), 128, np.uint8)


def rectangles(*boxes, size, labels=None, scores=None, semantic=None, **fields):
    """A raw prediction whose masks fill their boxes (x0, y0, x1, y1), at one size for all.

    Labels are 0, 1 and so on, scores .9, .8 and so on, and all is grass, if nothing else is given;
    ``size`` is in multiples of 4, ``semantic`` a category for each cell of 4 x 4 pixels.
    """
    if semantic is None:
        semantic = np.full((size[0] // 4, size[1] // 4), GRASS)
    scores = [0.9 - 0.1 * k for k in range(len(boxes))] if scores is None else scores
    return RawPrediction(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor(scores, dtype=torch.float32),
        labels=torch.tensor(range(len(boxes)) if labels is None else labels, dtype=torch.int64),
        mask_logits=torch.full((len(boxes), 8, 8), 9.0),
        semantic_logits=9 * torch.eye(3)[torch.from_numpy(semantic)].permute(2, 0, 1),
        image_size=size,
        original_size=size,
        **fields,
    )
