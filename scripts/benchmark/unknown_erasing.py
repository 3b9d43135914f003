"""Stage ``unknown_erasing``: finding and scoring regions, and the two forms of doing so.

The plain form dilates and labels the whole map once per category, radius by radius, and takes the
mean over one boolean mask per component.
"""

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from benchmark.case import Case, peak_mib
from refine.fusion.semantic import semantic_map
from refine.fusion.unknown_erasing import erasable_regions, erase, score_regions
from refine.options import UnknownErasingOptions
from refine.types import IGNORE_INDEX

GOAL = 1.8
FORMS_GOAL = 8.0
NUM_CATEGORIES, NUM_THINGS = 133, 80
SIZE = (800, 1333)


def build() -> list[Case]:
    """Given maps at both sizes with the default radius; then stride 4 against network size."""
    torch.set_num_threads(1)
    return [_plain_case((200, 333), 12), _plain_case(SIZE, 50), _forms_case()]


def _plain_case(size: tuple[int, int], radius: int) -> Case:
    categories, probabilities = _make_map(size)
    score_thresh = 0.6

    def ours() -> np.ndarray:
        regions = score_regions(categories, probabilities, radius=radius)
        return erase(categories, regions, score_thresh)

    peer = partial(erase_plainly, categories, probabilities, radius, score_thresh)
    name = f"unknown_erasing, radius {radius}"
    print(f"{name}: peak {peak_mib(ours):.1f} MiB, peer {peak_mib(peer):.1f} MiB")

    def check() -> None:
        erased = ours()
        assert np.array_equal(erased, peer()), "maps differ"
        share = np.mean(erased == IGNORE_INDEX)
        assert 0.05 < share < 0.95, f"{share:.0%} of the map is erased: too easy"

    return Case(name=name, ours=ours, peer=peer, check=check, goal=GOAL)


def erase_plainly(
    categories: np.ndarray,
    probabilities: np.ndarray,
    radius: int,
    score_thresh: float,
    *,
    first: int = 0,
) -> np.ndarray:
    """``[H, W]``: the map without unsure regions of the categories from ``first`` on."""
    result = categories.copy()
    square = np.ones((3, 3), bool)
    for category in np.unique(categories[categories >= first]):
        own = categories == category
        labels, count = ndimage.label(ndimage.binary_dilation(own, square, iterations=radius))
        for k in range(1, count + 1):
            region = own & (labels == k)
            if probabilities[region].mean(dtype=np.float64) < score_thresh:
                result[region] = IGNORE_INDEX
    return result


def _forms_case() -> Case:
    logits = _make_logits()
    semantic = semantic_map(logits, SIZE, SIZE)
    ours, peer = (partial(_erase_by_form, logits, semantic, at) for at in ("stride4", "input"))

    def check() -> None:
        cells, pixels = ours() == IGNORE_INDEX, peer() == IGNORE_INDEX
        assert 0.05 < cells.mean() < 0.95, "the map is too easy"
        # not the same computation: interpolation smooths probabilities before they are averaged
        assert np.mean(cells != pixels) < 0.05, "the forms erase different regions"

    name = "unknown_erasing, stride4 to input"
    return Case(name=name, ours=ours, peer=peer, check=check, goal=FORMS_GOAL, rounds=5)


def _erase_by_form(logits: torch.Tensor, semantic: np.ndarray, at: str) -> np.ndarray:
    options = UnknownErasingOptions(mode="score", at=at)
    regions = erasable_regions(
        logits, semantic, image_size=SIZE, num_things=NUM_THINGS, options=options
    )
    return erase(semantic, regions, options.score_thresh)


def _make_map(size: tuple[int, int], num_categories: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Patches of ten categories with frayed borders and specks, and how sure each pixel is."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn((1, num_categories, 6, 10), generator=generator)
    values = F.interpolate(coarse, size, mode="bicubic")[0]
    values += torch.randn(values.shape, generator=generator) * 0.05
    top = (values * 3).softmax(dim=0).max(dim=0)
    return top.indices.byte().numpy(), top.values.numpy()


def _make_logits() -> torch.Tensor:
    """``[133, 200, 336]``: some 15 categories lead somewhere, here surely and there hardly."""
    generator = torch.Generator().manual_seed(0)
    height, width = -(-SIZE[0] // 32) * 8, -(-SIZE[1] // 32) * 8
    coarse = torch.randn((1, NUM_CATEGORIES, 4, 6), generator=generator) * 2
    coarse[:, :NUM_CATEGORIES:9] += 4
    return F.interpolate(coarse, (height, width), mode="bicubic")[0]
