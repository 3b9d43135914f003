"""Panoptic quality by the rules of the official evaluator (panopticapi), on arrays.

Kirillov et al., "Panoptic Segmentation" (CVPR 2019), with the details that only the evaluator's
code fixes: what counts as void, and what crowds excuse. Nothing here needs torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from refine.types import GroundTruth, PanopticPrediction, Segment

MATCH_IOU = 0.5
"""A pair matches above this IoU. It is part of the metric's definition, not a knob."""

GROUP_SUFFIXES = {"all": "", "things": "_things", "stuff": "_stuff"}
"""Groups of categories and the ending of their metric keys: ``pq``, ``pq_things``, ``pq_stuff``."""

Panoptic = PanopticPrediction | GroundTruth
"""A segment map with its segments."""

_SEGMENT = np.dtype([("id", "i8"), ("category", "i8"), ("area", "i8"), ("is_crowd", "?")])
_MAX_RUN = 2**15  # pixels; longer runs are cut so that a length fits into 16 bits


@dataclass(frozen=True, slots=True, eq=False)
class PanopticStats:
    """Sums over images for each category; the sums of parts add up to those of the whole.

    Attributes:
        iou: ``[C]`` float64, summed IoU of the matched pairs.
        tp: ``[C]`` int64, matched pairs.
        fp: ``[C]`` int64, predicted segments that neither match nor are excused.
        fn: ``[C]`` int64, unmatched ground-truth segments that are no crowd.
    """

    iou: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray

    @classmethod
    def zeros(cls, num_categories: int) -> "PanopticStats":
        """The sums over no image."""
        counts = (np.zeros(num_categories, np.int64) for _ in range(3))
        return cls(np.zeros(num_categories), *counts)

    def __add__(self, other: "PanopticStats") -> "PanopticStats":
        return PanopticStats(
            self.iou + other.iou, self.tp + other.tp, self.fp + other.fp, self.fn + other.fn
        )


def match_segments(prediction: Panoptic, truth: Panoptic, *, num_categories: int) -> PanopticStats:
    """Match the predicted segments of one image with the true ones.

    A pair of one category matches if its IoU exceeds 0.5; the union leaves out predicted pixels on
    ground-truth void (but not true pixels that the prediction leaves void). The area of a true
    segment is the one it states, that of a predicted one is counted. A crowd never matches and is
    never missed. An unmatched prediction is excused if more than half of it lies on void and on
    the last crowd of its category.

    Args:
        prediction: A segment map of integers, 0 for void, ids below 2^24, fastest when
            C-contiguous; and every id of it exactly once, none without pixels. The segments'
            ``area`` is not read.
        truth: A segment map of the same size, in which ids without a segment are neither void nor
            part of any segment; and segments with distinct ids. One without pixels is missed.
        num_categories: ``C``; categories of the segments are ``0 .. C - 1``.

    Raises:
        ValueError: Maps of different shapes, or segments that contradict their map.
    """
    match = _match(prediction, truth)
    count = partial(np.bincount, minlength=num_categories)
    rows, cols = np.nonzero(match.ious > MATCH_IOU)
    matched = match.true["category"][rows]
    return PanopticStats(
        iou=count(matched, weights=match.ious[rows, cols]),
        tp=count(matched),
        fp=count(match.pred["category"][match.is_wrong]),
        fn=count(match.true["category"][match.is_missed]),
    )


def find_segment_errors(prediction: Panoptic, truth: Panoptic) -> tuple[set[int], set[int]]:
    """Ids of the segments that :func:`match_segments` counts as ``fp`` and as ``fn``."""
    match = _match(prediction, truth)
    wrong, missed = match.pred["id"][match.is_wrong], match.true["id"][match.is_missed]
    return set(wrong.tolist()), set(missed.tolist())


class _Match(NamedTuple):
    """P predicted and G true segments (``_SEGMENT``) of one image, and ``[G, P]`` float64 IoUs."""

    pred: np.ndarray
    true: np.ndarray
    ious: np.ndarray
    is_wrong: np.ndarray
    is_missed: np.ndarray


def _match(prediction: Panoptic, truth: Panoptic) -> _Match:
    pred, true = _to_array(prediction.segments, "predicted"), _to_array(truth.segments, "true")
    joint = _joint_areas(prediction.segment_map, pred["id"], truth.segment_map, true["id"])
    areas = joint[:, 1:].sum(axis=0)
    if not areas.all():
        empty = pred["id"][areas == 0][0]
        raise ValueError(f"id {empty} is among the predicted segments but not in their map")
    ious = _compute_ious(joint, areas, pred, true)
    ignored = joint[0, 1:].copy()
    for category, crowd in {s.category: s.id for s in truth.segments if s.is_crowd}.items():
        row = joint[1 + np.searchsorted(true["id"], crowd), 1:]
        ignored += np.where(pred["category"] == category, row, 0)
    is_match = ious > MATCH_IOU
    is_wrong = ~is_match.any(axis=0) & (ignored / areas <= MATCH_IOU)
    return _Match(pred, true, ious, is_wrong, ~is_match.any(axis=1) & ~true["is_crowd"])


def _to_array(segments: Sequence[Segment], kind: str) -> np.ndarray:
    """The segments, ascending by id."""
    rows = sorted((s.id, s.category, s.area, s.is_crowd) for s in segments)
    array = np.array(rows, _SEGMENT)
    ids = array["id"]
    if rows and ids[0] < 1:
        raise ValueError(f"{kind} segment id {ids[0]}: ids start at 1, 0 is void")
    if len(twice := ids[1:][ids[1:] == ids[:-1]]):
        raise ValueError(f"{kind} segment id {twice[0]} is listed twice")
    return array


def _joint_areas(
    pred_map: np.ndarray, pred_ids: np.ndarray, true_map: np.ndarray, true_ids: np.ndarray
) -> np.ndarray:
    """``[G + 2, P + 1]`` int64 pixels. Rows: void, true segments, other ids; columns likewise."""
    if pred_map.shape != true_map.shape or pred_map.size == 0:
        sizes = (" x ".join(map(str, m.shape)) for m in (pred_map, true_map))
        raise ValueError("the predicted map is {}, the true one {} pixels".format(*sizes))
    true, pred, areas = _count_pairs(true_map.reshape(-1), pred_map.reshape(-1))
    cols, is_stranger = _look_up(pred_ids, pred)
    if is_stranger.any():
        stranger = pred[is_stranger][0]
        raise ValueError(f"id {stranger} is in the predicted map but not among its segments")
    rows, is_stranger = _look_up(true_ids, true)
    rows[is_stranger] = len(true_ids) + 1
    joint = np.zeros((len(true_ids) + 2, len(pred_ids) + 1), np.int64)
    np.add.at(joint, (rows, cols), areas)
    return joint


def _count_pairs(true: np.ndarray, pred: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True ids, predicted ids and pixel counts (int64) of the pairs that occur in flat maps.

    Pixels are gathered into runs first: a real map has 300 000 pixels but some thousand runs. A
    run is one integer, true id (24 bits), predicted id (24), length (16), so that a plain sort,
    which numpy vectorises, brings equal pairs together.
    """
    is_edge = np.empty(true.size + 1, bool)
    np.not_equal(true[1:], true[:-1], out=is_edge[1:-1])
    is_edge[1:-1] |= pred[1:] != pred[:-1]
    is_edge[::_MAX_RUN] = True
    is_edge[-1] = True
    edges = np.flatnonzero(is_edge)
    starts, lengths = edges[:-1], np.diff(edges).astype(np.uint64)
    runs = (_to_bits(true[starts]) << 40) | (_to_bits(pred[starts]) << 16) | lengths
    runs.sort()
    pairs = runs >> 16
    firsts = np.flatnonzero(np.concatenate(([True], pairs[1:] != pairs[:-1])))
    areas, pairs = np.add.reduceat(runs & 0xFFFF, firsts).astype(np.int64), pairs[firsts]
    return (pairs >> 24).astype(np.int64), (pairs & 0xFFFFFF).astype(np.int64), areas


def _to_bits(ids: np.ndarray) -> np.ndarray:
    bits = ids.astype(np.uint64)  # negative ids become huge
    if bits.max() >= 2**24:
        raise ValueError(f"id {ids[bits >= 2**24][0]} of a map does not lie in 0 .. 2^24 - 1")
    return bits


def _look_up(ids: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of each value in (0, *ids), and whether it is not in there."""
    known = np.concatenate(([0], ids))
    index = np.searchsorted(known, values)
    return index, known.take(index, mode="clip") != values


def _compute_ious(
    joint: np.ndarray, areas: np.ndarray, pred: np.ndarray, true: np.ndarray
) -> np.ndarray:
    """``[G, P]`` float64; 0 for pairs that cannot match."""
    common = joint[1:-1, 1:]
    union = areas + true["area"][:, None] - common - joint[0, 1:]
    is_pair = (true["category"][:, None] == pred["category"]) & ~true["is_crowd"][:, None]
    is_pair &= common > 0
    if len(impossible := true["id"][(is_pair & (union < common)).any(axis=1)]):
        raise ValueError(f"true segment {impossible[0]} states an area smaller than its pixels")
    ious: np.ndarray = np.divide(common, union, out=np.zeros(union.shape), where=is_pair)
    return ious


class CategoryQuality(NamedTuple):
    """``[C]`` float64 fractions, ``pq = sq * rq``; 0 where a category has no segments at all.

    ``sq`` is the mean IoU of the matched pairs, ``rq`` the F1 of the detection of segments. Only
    categories that are present (``tp + fp + fn > 0``) enter averages.
    """

    pq: np.ndarray
    sq: np.ndarray
    rq: np.ndarray
    is_present: np.ndarray


def compute_category_quality(stats: PanopticStats) -> CategoryQuality:
    """PQ, SQ and RQ of every category from its sums."""
    halves = stats.tp + 0.5 * stats.fp + 0.5 * stats.fn
    parts = ((stats.iou, halves), (stats.iou, stats.tp), (stats.tp, halves))
    pq, sq, rq = (np.divide(a, b, out=np.zeros(len(a)), where=b > 0) for a, b in parts)
    return CategoryQuality(pq, sq, rq, halves > 0)


class GroupQuality(NamedTuple):
    """Means over the ``num_categories`` present ones of a group, fractions; 0 if there are none."""

    pq: float
    sq: float
    rq: float
    num_categories: int


def average_quality(stats: PanopticStats, num_things: int) -> dict[str, GroupQuality]:
    """Averages over ``all``, ``things`` (categories below ``num_things``) and ``stuff``."""
    quality = compute_category_quality(stats)
    is_thing = np.arange(len(stats.tp)) < num_things
    groups = {"all": quality.is_present, "things": is_thing, "stuff": ~is_thing}
    averages = {}
    for name, group in groups.items():
        chosen = quality.is_present & group
        number = int(chosen.sum())
        pq, sq, rq = (float(v[chosen].mean()) if number else 0.0 for v in quality[:3])
        averages[name] = GroupQuality(pq, sq, rq, number)
    return averages


def to_metric_keys(groups: Mapping[str, GroupQuality]) -> dict[str, float]:
    """Flatten averages to ``pq sq rq pq_things sq_things rq_things pq_stuff sq_stuff rq_stuff``."""
    return {
        f"{key}{suffix}": getattr(groups[group], key)
        for group, suffix in GROUP_SUFFIXES.items()
        for key in ("pq", "sq", "rq")
    }
