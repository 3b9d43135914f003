"""Small scenes to draw: a category table, panoptic maps, predictions of rectangles."""

from functools import partial

import numpy as np
import torch

from refine.categories import Category, CategoryTable
from refine.types import GroundTruth, PanopticPrediction, RawPrediction, Segment

CAT, DOG, GRASS = range(3)
RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)
CATEGORIES = CategoryTable(
    [
        Category(dataset_id=1, name="cat", is_thing=True, color=RED),
        Category(dataset_id=2, name="dog", is_thing=True, color=BLUE),
        Category(dataset_id=3, name="grass", is_thing=False, color=GREEN),
    ]
)


def _panoptic(kind, segment_map, category_of, crowds=()):
    segment_map = np.array(segment_map, np.int32)
    segments = tuple(
        Segment(
            id=k,
            category=category,
            is_thing=category != GRASS,
            area=int((segment_map == k).sum()),
            is_crowd=k in crowds,
        )
        for k, category in category_of.items()
    )
    return kind(segment_map=segment_map, segments=segments)


truth = partial(_panoptic, GroundTruth)
"""Ground truth of a segment map, categories by id and, if wanted, ids of crowds."""
prediction = partial(_panoptic, PanopticPrediction)


def grey_image(size):
    return np.full((*size, 3), 128, np.uint8)


def rectangles(*boxes, size, labels=None, scores=None, semantic=None, **fields):
    """A raw prediction whose masks fill their boxes (x0, y0, x1, y1).

    Args:
        boxes: By descending score, .9, .8 and so on without ``scores``.
        size: Height and width of the image, for the network too; multiples of 4.
        labels: Categories; without them 0, 1 and so on.
        scores: Their scores.
        semantic: ``[height / 4, width / 4]`` category of each cell; without it all is grass.
        fields: Of the prediction.
    """
    height, width = size
    if semantic is None:
        semantic = np.full((height // 4, width // 4), GRASS)
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
