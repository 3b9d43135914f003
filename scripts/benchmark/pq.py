"""Stage ``pq``: panoptic quality of maps in memory, ours against the official way (np.unique)."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmark.case import Case
from benchmark.scenes import draw_cells
from refine.coco_format.annotations import load_panoptic_json
from refine.coco_format.png import decode_segment_png
from refine.metrics.functional import MATCH_IOU, PanopticStats, match_segments
from refine.types import GroundTruth, PanopticPrediction, Segment

GOAL = 3.0
NUM_CATEGORIES = 133
SIZE = (480, 640)


class Pair(NamedTuple):
    """A prediction and its truth."""

    pred_map: np.ndarray
    pred: Sequence[Segment]
    true_map: np.ndarray
    true: Sequence[Segment]


def build() -> list[Case]:
    """Generated maps always, the real validation maps if REFINE_COCO_ROOT is set."""
    pairs = {"generated 480x640": [_generate(seed) for seed in range(10)]}
    if root := os.environ.get("REFINE_COCO_ROOT"):
        pairs["COCO val"] = _load(Path(root), limit=20)
    return [
        Case(
            name=f"pq, {name}",
            ours=partial(_score_all, items),
            peer=partial(_score_all_by_unique, items),
            check=partial(_check, items),
            items=len(items),
            goal=GOAL,
        )
        for name, items in pairs.items()
    ]


def _score_all(pairs: Sequence[Pair]) -> PanopticStats:
    total = PanopticStats.zeros(NUM_CATEGORIES)
    for pred_map, pred, true_map, true in pairs:
        prediction = PanopticPrediction(segment_map=pred_map, segments=tuple(pred))
        truth = GroundTruth(segment_map=true_map, segments=tuple(true))
        total += match_segments(prediction, truth, num_categories=NUM_CATEGORIES)
    return total


def _score_all_by_unique(pairs: Sequence[Pair]) -> np.ndarray:
    sums = np.zeros((4, NUM_CATEGORIES))
    for pair in pairs:
        _add_by_unique(sums, pair)
    return sums


def _add_by_unique(sums: np.ndarray, pair: Pair) -> None:
    """The official evaluator's procedure in our words: sort all pixels, then dictionaries."""
    pred_map, pred, true_map, true = pair
    ids, counts = np.unique(pred_map, return_counts=True)
    areas = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    keys = true_map.astype(np.uint64) * np.uint64(2**24) + pred_map.astype(np.uint64)
    keys, counts = np.unique(keys, return_counts=True)
    common = {divmod(k, 2**24): n for k, n in zip(keys.tolist(), counts.tolist(), strict=True)}
    pred_of, true_of = {s.id: s for s in pred}, {s.id: s for s in true}
    matched: set[tuple[str, int]] = set()
    for (t, p), pixels in common.items():
        g, d = true_of.get(t), pred_of.get(p)
        if g is None or d is None or g.is_crowd or g.category != d.category:
            continue
        iou = pixels / (areas[p] + g.area - pixels - common.get((0, p), 0))
        if iou > MATCH_IOU:
            sums[0, g.category] += iou
            sums[1, g.category] += 1
            matched |= {("true", t), ("pred", p)}
    for g in true:
        sums[3, g.category] += not g.is_crowd and ("true", g.id) not in matched
    crowds = {g.category: g.id for g in true if g.is_crowd}
    for d in pred:
        excused = common.get((0, d.id), 0) + common.get((crowds.get(d.category, -1), d.id), 0)
        sums[2, d.category] += ("pred", d.id) not in matched and excused <= areas[d.id] / 2


def _check(pairs: Sequence[Pair]) -> None:
    ours, (iou, *counts) = _score_all(pairs), _score_all_by_unique(pairs)
    assert np.allclose(ours.iou, iou, rtol=0, atol=1e-9), "summed IoU differs"
    assert np.array_equal((ours.tp, ours.fp, ours.fn), counts), "counts differ"
    assert min(ours.tp.sum(), ours.fp.sum(), ours.fn.sum()) > 0, "the maps are too easy"


def _generate(seed: int) -> Pair:
    """Ten cells with frayed borders; the prediction is moved, cut and partly misnamed."""
    rng = np.random.default_rng(seed)
    seeds = rng.uniform(0, 1, (10, 2)) * SIZE
    true_map = draw_cells(rng, seeds, SIZE, noise_px=0.8)
    true_map[: SIZE[0] // 40] = 0
    pred_map = draw_cells(rng, seeds + rng.normal(0, 12, seeds.shape), SIZE, noise_px=0.8)
    categories = rng.integers(0, NUM_CATEGORIES, 10)
    guesses = np.where(rng.random(10) < 0.2, rng.integers(0, NUM_CATEGORIES, 10), categories)
    ids = rng.choice(2**24 - 1, (2, 11), replace=False).astype(np.int32) + 1
    ids[:, 0] = 0
    true_map, pred_map = ids[0][true_map], ids[1][pred_map]
    return Pair(
        pred_map,
        _describe(pred_map, dict(zip(ids[1, 1:].tolist(), guesses.tolist(), strict=True))),
        true_map,
        _describe(true_map, dict(zip(ids[0, 1:].tolist(), categories.tolist(), strict=True))),
    )


def _describe(segment_map: np.ndarray, categories: dict[int, int]) -> list[Segment]:
    ids, areas = np.unique(segment_map[segment_map > 0], return_counts=True)
    return [
        Segment(id=i, category=categories[i], is_thing=True, area=area)
        for i, area in zip(ids.tolist(), areas.tolist(), strict=True)
    ]


def _load(root: Path, limit: int) -> list[Pair]:
    """Real maps; the prediction is the truth moved by a few pixels, every fifth category wrong."""
    folder = root / "annotations"
    truth = load_panoptic_json(folder / "panoptic_val2017.json")
    pairs = []
    for k in range(min(limit, len(truth))):
        path = folder / "panoptic_val2017" / str(truth.file_names[k])
        true_map = decode_segment_png(path.read_bytes(), source=str(path))
        true = truth.segments(k)
        pred_map = np.roll(true_map, (2, 3), (0, 1))
        names = {s.id: s.category if n % 5 else 0 for n, s in enumerate(true)}
        pairs.append(Pair(pred_map, _describe(pred_map, names), true_map, true))
    return pairs
