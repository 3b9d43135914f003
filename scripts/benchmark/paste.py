"""Stage ``paste``: 100 masks of 28 x 28 on an image of 800 x 1333.

The usual ways make one canvas per mask: torchvision's of numbers, and one of bool that samples each
mask at the pixels of its box, as detectron2 does on a CPU.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.models.detection.roi_heads import paste_masks_in_image

from benchmark.case import Case
from benchmark.scenes import Detections, make_detections, to_canvases
from refine.ops.masks import paste_masks
from refine.types import MaskCrop

SIZE = (800, 1333)


def build() -> list[Case]:
    """Against torchvision, and against sampling box by box."""
    torch.set_num_threads(1)
    detections = make_detections(SIZE)
    peers = (
        ("torchvision", _paste_by_torchvision, 40.0, 0.03),  # rounds boxes to whole pixels
        ("box by box", _paste_by_box, 8.0, 1e-5),
    )
    return [
        Case(
            name=f"paste, {name}",
            ours=partial(_paste, detections),
            peer=partial(peer, detections),
            check=partial(_check, peer, detections, allowed),
            goal=goal,
            rounds=5,
        )
        for name, peer, goal, allowed in peers
    ]


def _paste(detections: Detections) -> list[MaskCrop]:
    return paste_masks(detections.probabilities, detections.boxes, SIZE, threshold=0.5)


def _paste_by_torchvision(detections: Detections) -> np.ndarray:
    masks = torch.from_numpy(detections.probabilities)[:, None]
    canvases = paste_masks_in_image(masks, torch.from_numpy(detections.boxes), SIZE)
    pasted: np.ndarray = (canvases[:, 0] >= 0.5).numpy()
    return pasted


def _paste_by_box(detections: Detections) -> np.ndarray:
    canvases = torch.zeros((len(detections.boxes), *SIZE), dtype=torch.bool)
    masks = torch.from_numpy(detections.probabilities)
    for canvas, mask, box in zip(canvases, masks, detections.boxes.tolist(), strict=True):
        left, top = (max(int(np.floor(v)), 0) for v in box[:2])
        right, bottom = (min(int(np.ceil(v)), n) for v, n in zip(box[2:], SIZE[::-1], strict=True))
        x = (torch.arange(left, right) + 0.5 - box[0]) / (box[2] - box[0]) * 2 - 1
        y = (torch.arange(top, bottom) + 0.5 - box[1]) / (box[3] - box[1]) * 2 - 1
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]
        values = F.grid_sample(mask[None, None], grid, align_corners=False)
        canvas[top:bottom, left:right] = values[0, 0] >= 0.5
    pasted: np.ndarray = canvases.numpy()
    return pasted


def _check(
    peer: Callable[[Detections], np.ndarray], detections: Detections, allowed: float
) -> None:
    ours = to_canvases(_paste(detections), SIZE)
    share = np.count_nonzero(ours != peer(detections)) / np.count_nonzero(ours)
    # the rest: values within rounding of one half
    assert share <= allowed, f"{share:.2%} of the mask pixels differ"
