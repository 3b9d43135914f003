"""How often a rule finds which of two overlapping instances lies on top.

A rule answers a pair ``(top, bottom)``, named by the truth, with a preference: above 0 it is right,
below 0 wrong; a tie (0) and no opinion (NaN) count half. The functions below are the rules that
need no network.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class PairAccuracy(Metric):
    """The share of true ordered pairs that each of some named rules gets right.

    The states are sums over pairs, added up over processes. All rules answer the same pairs. Leave
    images out that only fill up a distributed sampler.

    Args:
        rules: Their names.
        **kwargs: torchmetrics' own options.
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
        for name in ("right", "wrong"):
            zeros = torch.zeros(len(self.rules), dtype=torch.int64)
            self.add_state(name, zeros, dist_reduce_fx="sum")
        self.add_state("num_pairs", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, preferences: Mapping[str, Tensor]) -> None:
        """Add pairs.

        Args:
            preferences: ``[K]`` of every rule: above 0 if it says that the instance is on top that
                is on top, 0 for a tie, NaN for no opinion.

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
        """Accuracy of each rule: float64 fractions, 0 without pairs (``num_pairs`` tells)."""
        lead = (self.right - self.wrong).double()  # ties are half of each
        shares = (self.num_pairs + lead) / (2 * self.num_pairs.clamp(min=1))
        return dict(zip(self.rules, shares, strict=True))


def prefer_smaller(areas: Tensor, pairs: Tensor) -> Tensor:
    """The smaller mask is on top (relation ``area``).

    Args:
        areas: ``[N]`` of the masks, in any unit.
        pairs: ``[K, 2]`` int64 ``(top, bottom)``.

    Returns:
        ``[K]`` preferences.
    """
    return -prefer_higher(areas, pairs)


def prefer_higher(scores: Tensor, pairs: Tensor) -> Tensor:
    """The higher score is on top (relations ``score`` and ``srm``).

    Args:
        scores: ``[N]``.
        pairs: ``[K, 2]`` int64 ``(top, bottom)``.

    Returns:
        ``[K]`` preferences.
    """
    of_pairs = scores[pairs]
    return of_pairs[:, 0] - of_pairs[:, 1]


def prefer_more_probable(forth: Tensor, back: Tensor) -> Tensor:
    """The more probable order of an occlusion head (relation ``occlusion``).

    Args:
        forth: ``[K]`` logits or probabilities of O(top, bottom).
        back: ``[K]`` the same of O(bottom, top).

    Returns:
        ``[K]`` preferences.
    """
    return forth - back


def compute_mask_areas(masks: Tensor, boxes: Tensor) -> Tensor:
    """The area of masks that are given on the grids of their boxes.

    Args:
        masks: ``[N, m, m]`` probabilities; a cell belongs to the mask from 1/2 on.
        boxes: ``[N, 4]`` xyxy.

    Returns:
        ``[N]`` float32, in the square of the boxes' unit.
    """
    shares = (masks >= 0.5).float().mean(dim=(1, 2))
    return shares * (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).float().prod(dim=1)
