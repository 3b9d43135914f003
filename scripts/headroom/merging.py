"""What the order of true masks is worth: panoptic quality of merging them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from refine.fusion.merge import Instance, merge_segments
from refine.fusion.overlaps import pair_overlaps
from refine.fusion.relations import relate
from refine.metrics.functional import PanopticStats, average_quality, match_segments
from refine.ops.outlines import encode_mask, tight_crop
from refine.options import MergeOptions, RelationsOptions
from refine.toy.objects import TOY_CATEGORIES, VOID, ToyScene
from refine.types import GroundTruth, InstanceTruth, MaskCrop, RawPrediction, Segment

NUM_THINGS = sum(category.is_thing for category in TOY_CATEGORIES)

SCORINGS = ("random", "visible")
"""Scores drawn evenly; or that grow with the visible share of a thing, as detectors' tend to."""

RELATIONS = ("oracle", "area", "score")
"""Kinds of relations that need no network."""

_NOISE = 0.15  # of "visible"
_NO_OUTPUT = cast(RawPrediction, None)  # of a network: these relations look at the masks alone


@dataclass(frozen=True, slots=True, eq=False)
class MergeCase:
    """A scene as the merge and the metric see it.

    Attributes:
        truth: Its true map and full masks.
        semantic: ``[H, W]`` uint8, the true stuff.
        crops: Full masks of the things that are no crowds.
        labels: Their categories.
        shares: Their visible shares.
    """

    truth: GroundTruth
    semantic: np.ndarray
    crops: list[MaskCrop]
    labels: list[int]
    shares: np.ndarray


def prepare(scene: ToyScene) -> MergeCase:
    """The true map of a scene, and its things as perfect detections."""
    stuff = scene.stuff
    parts = [(int(c), False, stuff == c) for c in np.unique(stuff[stuff != VOID])]
    parts += [(thing.category, thing.is_crowd, thing.visible) for thing in scene.objects]
    parts = [part for part in parts if part[2].any()]
    segment_map, segments = np.zeros(stuff.shape, np.int32), []
    for number, (category, is_crowd, visible) in enumerate(parts, start=1):
        segment_map[visible] = number
        segments.append(
            Segment(
                id=number,
                category=category,
                is_thing=category < NUM_THINGS,
                area=int(visible.sum()),
                is_crowd=is_crowd,
            )
        )
    things = [thing for thing in scene.objects if not thing.is_crowd]
    crops = [tight_crop(thing.mask) or MaskCrop(0, 0, np.zeros((0, 0), bool)) for thing in things]
    labels = [thing.category for thing in things]
    instances = InstanceTruth(
        boxes=np.zeros((len(things), 4), np.float32),
        labels=np.array(labels, np.int64),
        is_crowd=np.zeros(len(things), bool),
        masks=tuple(encode_mask(crop) for crop in crops),
    )
    return MergeCase(
        truth=GroundTruth(segment_map=segment_map, segments=tuple(segments), instances=instances),
        semantic=stuff,
        crops=crops,
        labels=labels,
        shares=np.array([thing.visible.sum() / thing.mask.sum() for thing in things]),
    )


def things_quality(cases: Sequence[MergeCase], relation: str, *, scoring: str, seed: int) -> float:
    """PQ of the things when their true masks are merged.

    Args:
        cases: The scenes.
        relation: One of :data:`RELATIONS`.
        scoring: One of :data:`SCORINGS`.
        seed: Of the scores.
    """
    rng = np.random.default_rng(seed)
    total = PanopticStats.zeros(len(TOY_CATEGORIES))
    for case in cases:
        scores = rng.uniform(0.5, 1, len(case.crops))
        if scoring == "visible":
            noisy = case.shares + rng.normal(0, _NOISE, len(case.crops))
            scores = 0.5 + noisy.clip(0, 1) / 2
        instances = [
            Instance(*detection)
            for detection in zip(case.crops, case.labels, scores.tolist(), strict=True)
        ]
        instances.sort(key=lambda instance: -instance.score)
        overlaps = pair_overlaps([instance.crop for instance in instances])
        options = RelationsOptions(kind=relation)
        merged = merge_segments(
            instances,
            case.semantic,
            num_things=NUM_THINGS,
            options=MergeOptions(),
            stuff_area_limit_px=0,
            relations=relate(instances, overlaps, options, raw=_NO_OUTPUT, truth=case.truth),
        )
        total += match_segments(merged, case.truth, num_categories=len(TOY_CATEGORIES))
    return average_quality(total, NUM_THINGS)["things"].pq
