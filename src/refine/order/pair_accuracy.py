"""How often a rule finds which of two overlapping instances lies on top.

A rule answers each pair ``(top, bottom)`` of the truth with a preference: above 0 it is right,
below 0 wrong; a tie (0) and no opinion (NaN) count half.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class PairAccuracy(Metric):
    """Share of true ordered pairs that each of several named rules gets right.

    All rules answer the same pairs; the states are sums over pairs and over processes. Leave out
    images that only fill up a distributed sampler.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    right: Tensor
    wrong: Tensor
    num_pairs: Tensor

    def __init__(self, rules: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rules = tuple(rules)
        shapes = {"right": [len(self.rules)], "wrong": [len(self.rules)], "num_pairs": []}
        for name, shape in shapes.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preferences: Mapping[str, Tensor]) -> None:
        """Add ``[K]`` preferences of every rule.

        Raises:
            ValueError: A rule is missing or unknown, or answers another number of pairs.
        """
        if preferences.keys() != set(self.rules):
            raise ValueError(f"answers of {sorted(preferences)}, not of {sorted(self.rules)}")
        if len({p.shape for p in preferences.values()}) > 1:
            raise ValueError("the rules answer different numbers of pairs")
        answers = torch.stack([preferences[rule] for rule in self.rules])  # [rules, K]
        self.right += (answers > 0).sum(dim=1)
        self.wrong += (answers < 0).sum(dim=1)
        self.num_pairs += answers.shape[1]

    def compute(self) -> dict[str, Tensor]:
        """Accuracy of each rule: float64 fractions, 0 without pairs (see ``num_pairs``)."""
        lead = (self.right - self.wrong).double()  # ties are half of each
        shares = (self.num_pairs + lead) / (2 * self.num_pairs.clamp(min=1))
        return dict(zip(self.rules, shares, strict=True))


def prefer_higher(values: Tensor, pairs: Tensor) -> Tensor:
    """``[K]`` preferences of the rule that the instance of the higher value ``[N]`` is on top.

    The pairs are ``[K, 2]`` int64 ``(top, bottom)``.
    """
    top, bottom = values[pairs].unbind(dim=1)
    return top - bottom


def compute_mask_areas(masks: Tensor, boxes: Tensor) -> Tensor:
    """``[N]`` float32 areas, in the square of the unit of the boxes ``[N, 4]`` xyxy.

    Masks are probabilities ``[N, m, m]`` inside the boxes; a cell counts from 1/2 on.
    """
    shares = (masks >= 0.5).float().mean(dim=(1, 2))
    return shares * (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).float().prod(dim=1)
