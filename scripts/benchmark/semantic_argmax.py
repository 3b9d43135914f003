"""Stage ``semantic_argmax``: the best of 133 categories at every pixel, from logits at stride 4.

The usual way interpolates the logits to the size of the image first.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.case import Case
from benchmark.scenes import make_semantic_logits
from refine.fusion.semantic import semantic_map

GOALS = {(800, 1333): 8.0, (480, 640): 4.0}
_ROUNDING = 1e-4


def build() -> list[Case]:
    """At COCO's network size and at the size of its images."""
    torch.set_num_threads(1)
    scenes = [(size, goal, make_semantic_logits(size)) for size, goal in GOALS.items()]
    return [
        Case(
            name=f"semantic_argmax, {size[0]}x{size[1]}",
            ours=partial(semantic_map, logits, size, size),
            peer=partial(_take_best_of_all, logits, size),
            check=partial(_check, logits, size),
            goal=goal,
            rounds=3,
        )
        for size, goal, logits in scenes
    ]


def _take_best_of_all(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return interpolate(logits, size).argmax(dim=0)


def interpolate(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """``[C, H, W]``: the logits of every pixel."""
    large = F.interpolate(logits[None], scale_factor=4, mode="bilinear")[0]
    return large[:, : size[0], : size[1]]


def _check(logits: Tensor, size: tuple[int, int]) -> None:
    values = interpolate(logits, size)
    ours = torch.from_numpy(semantic_map(logits, size, size)).long()
    best = values.argmax(dim=0)
    y, x = torch.nonzero(ours != best, as_tuple=True)
    gaps = values[best[y, x], y, x] - values[ours[y, x], y, x]
    assert (gaps < _ROUNDING).all(), f"{len(gaps)} pixels differ by more than rounding"
    assert len(gaps) <= 1e-5 * best.numel(), f"{len(gaps)} pixels differ"
    assert torch.count_nonzero(best.flatten().bincount()) >= 5, "the map is too easy"
