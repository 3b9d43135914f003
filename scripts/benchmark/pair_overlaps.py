"""Stage ``pair_overlaps``: the pixels that every two of 100 masks share, at 800 x 1333.

Ours counts on crops. The usual ways need the full masks, which they are given: run lengths
(pycocotools, encoding included) and the product of all masks as one matrix of floats.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from pycocotools import mask as coco_mask

from benchmark.case import Case
from benchmark.scenes import make_detections, to_canvases
from refine.fusion.overlaps import pair_overlaps
from refine.ops.masks import paste_masks
from refine.types import MaskCrop

SIZE = (800, 1333)


def build() -> list[Case]:
    """Against both."""
    torch.set_num_threads(1)
    detections = make_detections(SIZE)
    crops = paste_masks(detections.probabilities, detections.boxes, SIZE, threshold=0.5)
    masks = to_canvases(crops, SIZE)
    peers = (("run lengths", _count_by_runs, 12.0), ("matrix product", count_by_product, 30.0))
    return [
        Case(
            name=f"pair_overlaps, {name}",
            ours=partial(pair_overlaps, crops),
            peer=partial(peer, masks),
            check=partial(_check, peer, crops, masks),
            goal=goal,
            rounds=3,
        )
        for name, peer, goal in peers
    ]


def _count_by_runs(masks: np.ndarray) -> np.ndarray:
    runs = [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
    # against a crowd, IoU is the share of the first mask
    shares = coco_mask.iou(runs, runs, [True] * len(runs))
    counts: np.ndarray = np.rint(shares * coco_mask.area(runs)[:, None]).astype(np.int64)
    return counts


def count_by_product(masks: np.ndarray) -> np.ndarray:
    """``[N, N]`` int64 shared pixels of ``[N, H, W]`` bool masks."""
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    counts: np.ndarray = (flat @ flat.T).astype(np.int64)
    return counts


def _check(
    peer: Callable[[np.ndarray], np.ndarray], crops: list[MaskCrop], masks: np.ndarray
) -> None:
    found = pair_overlaps(crops)
    counts = np.diag(found.areas)
    counts[found.pairs[:, 0], found.pairs[:, 1]] = found.intersections
    assert np.array_equal(counts, np.triu(peer(masks))), "counts differ"
    assert len(found.pairs) > 100, "the scene is too easy"
