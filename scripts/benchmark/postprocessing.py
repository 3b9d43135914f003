"""Stage ``postprocessing``: from the output of a network to the panoptic map, 800 x 1333 pixels.

100 instances, all above the score limit, soft occlusion, merge with reclaim, 133 categories and
Unknown Erasing. The plain form has a full canvas for every mask and for every category, and erases
by the probabilities of all pixels rather than of the cells at stride 4: there the maps may differ.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from benchmark.case import Case, extra_mib
from benchmark.pair_overlaps import count_by_product
from benchmark.scenes import (
    NUM_CATEGORIES,
    NUM_THINGS,
    make_detections,
    make_semantic_logits,
)
from benchmark.semantic_argmax import interpolate
from benchmark.unknown_erasing import erase_plainly
from refine.fusion.evidence import Evidence
from refine.fusion.fuse_evidence import fuse
from refine.options import FusionOptions, MergeOptions, RelationsOptions, UnknownErasingOptions
from refine.types import PairOcclusions, RawPrediction

GOAL = 10.0
MAX_EXTRA_MIB = 120
SIZE = (800, 1333)
AREA_LIMIT_PX = 4096
ERASING = UnknownErasingOptions(mode="score", score_thresh=0.9)  # the scene is sure of itself
RELATIONS = RelationsOptions(kind="soft_occlusion")
MERGE = MergeOptions()


class Scene(NamedTuple):
    """One image; ``occlusions[i, j]`` is ``O(i, j)``."""

    raw: RawPrediction
    occlusions: np.ndarray


def build() -> list[Case]:
    """The whole of it, with its memory."""
    torch.set_num_threads(1)
    scene = _generate()
    extra = extra_mib(_prepare)
    print(f"postprocessing: {extra:.0f} MiB extra")

    def check() -> None:
        assert not extra > MAX_EXTRA_MIB, f"{extra:.0f} MiB extra, allowed are {MAX_EXTRA_MIB}"
        _check(scene)

    return [
        Case(
            name="postprocessing, 100 instances",
            ours=partial(_fuse, scene, ERASING.score_thresh),
            peer=partial(_fuse_plainly, scene, [ERASING.score_thresh]),
            check=check,
            goal=GOAL,
            rounds=2,
        )
    ]


def _fuse(scene: Scene, erasing_thresh: float) -> np.ndarray:
    erasing = replace(ERASING, score_thresh=erasing_thresh)
    options = FusionOptions(unknown_erasing=erasing, relations=RELATIONS, merge=MERGE)
    evidence = Evidence(scene.raw, num_things=NUM_THINGS)
    return fuse(evidence, options, stuff_area_limit_px=AREA_LIMIT_PX).segment_map


def _fuse_plainly(scene: Scene, erasing_threshs: Sequence[float]) -> list[np.ndarray]:
    """A map for each threshold."""
    masks = _paste_on_canvases(scene.raw)
    uppers = _relate_plainly(scene, masks)
    probabilities, semantic = interpolate(scene.raw.semantic_logits, SIZE).softmax(dim=0).max(dim=0)
    categories, radius = semantic.byte().numpy(), round(ERASING.dilation_frac * min(SIZE))
    erased = [
        erase_plainly(categories, probabilities.numpy(), radius, thresh, first=NUM_THINGS)
        for thresh in erasing_threshs
    ]
    return [_merge_plainly(masks, uppers, left) for left in erased]


def _paste_on_canvases(raw: RawPrediction) -> np.ndarray:
    """``[N, H, W]`` bool."""
    canvases = np.zeros((len(raw.boxes), *SIZE), bool)
    masks = raw.mask_logits.sigmoid()
    for canvas, mask, (left, top, right, bottom) in zip(canvases, masks, raw.boxes, strict=True):
        x = (torch.arange(SIZE[1]) + 0.5 - left) / (right - left) * 2 - 1
        y = (torch.arange(SIZE[0]) + 0.5 - top) / (bottom - top) * 2 - 1
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]
        values = F.grid_sample(mask[None, None], grid, align_corners=False)
        canvas[:] = values[0, 0] >= MERGE.mask_thresh
    return canvases


def _relate_plainly(scene: Scene, masks: np.ndarray) -> set[tuple[int, int]]:
    """``(upper, lower)``."""
    common, scores, uppers = count_by_product(masks), scene.raw.scores.tolist(), set()
    for i in range(len(masks)):
        for j in range(i + 1, len(masks)):
            least = min(common[i, i], common[j, j])
            if common[i, j] and common[i, j] / least >= RELATIONS.overlap_thresh:
                there, back = (
                    scores[k] * math.exp(-((o - 1) ** 2) / RELATIONS.sigma)
                    for k, o in ((i, scene.occlusions[i, j]), (j, scene.occlusions[j, i]))
                )
                uppers.add((j, i) if back > there else (i, j))
    return uppers


def _merge_plainly(
    masks: np.ndarray, uppers: set[tuple[int, int]], semantic: np.ndarray
) -> np.ndarray:
    segment_map = np.zeros(SIZE, np.int32)
    ids: dict[int, int] = {}
    for k, mask in enumerate(masks):
        claimed = mask & (segment_map == 0)
        for j, number in ids.items():
            if (k, j) in uppers:
                claimed |= mask & (segment_map == number)
        if claimed.any() and 1 - claimed.sum() / mask.sum() <= MERGE.overlap_thresh:
            ids[k] = len(ids) + 1
            segment_map[claimed] = ids[k]
    count = 0
    for number in range(1, len(ids) + 1):
        if (segment_map == number).any():
            count += 1
            segment_map[segment_map == number] = count
    for category in range(NUM_THINGS, NUM_CATEGORIES):
        free = (segment_map == 0) & (semantic == category)
        if free.sum() >= AREA_LIMIT_PX:
            count += 1
            segment_map[free] = count
    return segment_map


def _check(scene: Scene) -> None:
    threshs = [0.0, ERASING.score_thresh]
    plain, plain_erased = _fuse_plainly(scene, threshs)
    whole, erased = (_fuse(scene, thresh) for thresh in threshs)
    # a category may fall otherwise where two are equal but for rounding
    assert np.mean(whole != plain) <= 1e-5, "maps differ"
    assert np.mean(erased != whole) > 1e-3, "nothing is erased"
    assert np.mean(erased != plain_erased) < 0.01, "maps differ after erasing"


def _prepare() -> Callable[[], object]:
    return partial(_fuse, _generate(), ERASING.score_thresh)


def _generate() -> Scene:
    rng = np.random.default_rng(0)
    detections = make_detections(SIZE)
    count = len(detections.boxes)
    occlusions = rng.random((count, count), np.float32)
    pairs = np.argwhere(~np.eye(count, dtype=bool))
    answers = PairOcclusions(
        pairs=torch.from_numpy(pairs),
        probabilities=torch.from_numpy(occlusions[pairs[:, 0], pairs[:, 1]]),
    )
    raw = RawPrediction(
        boxes=torch.from_numpy(detections.boxes),
        scores=torch.from_numpy(np.sort(rng.uniform(0.5, 1, count))[::-1].astype(np.float32)),
        labels=torch.from_numpy(rng.integers(0, NUM_THINGS, count)),
        mask_logits=torch.from_numpy(detections.probabilities).logit(eps=1e-6),
        semantic_logits=make_semantic_logits(SIZE),
        image_size=SIZE,
        original_size=SIZE,
        occlusions={RELATIONS.head: answers},
    )
    return Scene(raw, occlusions.astype(np.float64))
