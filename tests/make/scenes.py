"""Predictions and ground truths of a few masks, made by hand."""

import numpy as np
import torch

from make.dataset import describe
from refine.metrics.functional import PanopticStats, average_quality, match_segments
from refine.ops.outlines import encode_mask
from refine.types import IGNORE_INDEX, GroundTruth, InstanceTruth, RawPrediction


def raw_of(boxes, scores, *, labels=None, semantic=None, size=(32, 64), original=None, **heads):
    """A prediction with solid masks in the boxes; ``semantic``: logits."""
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return RawPrediction(
        boxes=boxes,
        scores=torch.tensor(scores, dtype=torch.float32),
        labels=torch.tensor([0] * len(boxes) if labels is None else labels, dtype=torch.int64),
        mask_logits=torch.full((len(boxes), 28, 28), 9.0),
        semantic_logits=torch.zeros(3, 8, 8) if semantic is None else semantic,
        image_size=size,
        original_size=original or size,
        **heads,
    )


def segments_of(segment_map, categories, *, num_things):
    """The segments of a map; ``categories`` by segment id."""
    entries = [(number, category, False) for number, category in categories.items()]
    return tuple(describe(entries, segment_map, num_things=num_things))


def truth_of(segment_map, categories, outlines=None, *, num_things=2):
    """``outlines``: ``(label, mask crop, is crowd)``; None: a dataset without them."""
    segment_map = np.asarray(segment_map, np.int32)
    instances = outlines is not None and InstanceTruth(
        boxes=np.zeros((len(outlines), 4), np.float32),
        labels=np.array([label for label, *_ in outlines], np.int64),
        is_crowd=np.array([crowd for *_, crowd in outlines], bool),
        masks=tuple(encode_mask(crop) for _, crop, _ in outlines),
    )
    segments = segments_of(segment_map, categories, num_things=num_things)
    return GroundTruth(segment_map=segment_map, segments=segments, instances=instances or None)


def semantic_of(truth):
    """``[H, W]`` uint8: the category of every pixel."""
    semantic = np.full(truth.segment_map.shape, IGNORE_INDEX, np.uint8)
    for segment in truth.segments:
        semantic[truth.segment_map == segment.id] = segment.category
    return semantic


def pq_of(scenes, categories):
    """PQ of ``(prediction, truth)`` pairs over all categories."""
    total = PanopticStats.zeros(len(categories))
    for prediction, truth in scenes:
        total += match_segments(prediction, truth, num_categories=len(categories))
    return average_quality(total, categories.num_things)["all"].pq
