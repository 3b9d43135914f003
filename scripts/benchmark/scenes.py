"""Made-up output of a network for one image of COCO's size, and maps of cells."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from refine.types import MaskCrop

NUM_CATEGORIES, NUM_THINGS = 133, 80
SIDE = 28
_LEADERS = 10  # categories that win somewhere


class Detections(NamedTuple):
    """``[N, 28, 28]`` float32 mask probabilities and ``[N, 4]`` float32 xyxy pixels."""

    probabilities: np.ndarray
    boxes: np.ndarray


def make_detections(size: tuple[int, int], *, count: int = 100, seed: int = 0) -> Detections:
    """Blobs with lobes in boxes of COCO's spread of sizes, which cover the image three times."""
    rng = np.random.default_rng(seed)
    height, width = size
    spread = np.exp(rng.normal(0, 1.2, count))
    aspects = np.exp(rng.normal(0, 0.4, count))
    extents = spread[:, None] * np.stack([aspects, 1 / aspects], axis=1)
    extents *= np.sqrt(3 * height * width / extents.prod(axis=1).sum())
    extents = np.clip(extents, 8, [0.9 * width, 0.9 * height])
    corners = rng.uniform(0, [width, height] - extents)
    boxes = np.concatenate([corners, corners + extents], axis=1).astype(np.float32)
    return Detections(np.stack([_make_blob(rng) for _ in range(count)]), boxes)


def _make_blob(rng: np.random.Generator) -> np.ndarray:
    """``[28, 28]`` float32 probabilities."""
    y, x = np.mgrid[:SIDE, :SIDE] * (2 / (SIDE - 1)) - 1
    radius = np.hypot(y / rng.uniform(0.8, 1.2), x / rng.uniform(0.8, 1.2))
    lobes = 1 + 0.2 * np.sin(rng.integers(2, 6) * np.arctan2(y, x) + rng.uniform(0, 6))
    logits = 10 * (0.85 * lobes - radius) + rng.normal(0, 0.5, (SIDE, SIDE))
    blob: np.ndarray = (1 / (1 + np.exp(-logits))).astype(np.float32)
    return blob


def make_semantic_logits(size: tuple[int, int], *, seed: int = 0) -> Tensor:
    """``[133, h, w]`` float32 at stride 4 of the padded image: smooth regions, noise of 1."""
    generator = torch.Generator().manual_seed(seed)
    cells = [-(-side // 32) * 8 for side in size]
    logits = torch.randn((NUM_CATEGORIES, *cells), generator=generator)
    coarse = torch.randn((1, _LEADERS, 4, 6), generator=generator)
    smooth = F.interpolate(coarse, cells, mode="bicubic")[0]
    leaders = torch.randperm(NUM_CATEGORIES, generator=generator)[:_LEADERS]
    logits[leaders] += 8 + 20 * smooth
    return logits


def draw_cells(
    rng: np.random.Generator, points: np.ndarray, size: tuple[int, int], *, noise_px: float
) -> np.ndarray:
    """``[H, W]`` int32 number, from 1 on, of the nearest of ``[N, 2]`` points; frayed borders."""
    y, x = np.mgrid[: size[0], : size[1]] + rng.normal(0, noise_px, (2, *size))
    distances = [(y - top) ** 2 + (x - left) ** 2 for top, left in points]
    cells: np.ndarray = np.argmin(distances, axis=0).astype(np.int32) + 1
    return cells


def to_canvases(crops: Sequence[MaskCrop], size: tuple[int, int]) -> np.ndarray:
    """``[N, H, W]`` bool masks of the whole image."""
    canvases = np.zeros((len(crops), *size), bool)
    for canvas, crop in zip(canvases, crops, strict=True):
        canvas[crop.slices] = crop.mask
    return canvases
