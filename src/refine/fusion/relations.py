"""Which of two overlapping instances lies on top: seven answers to one question.

========================  ==========================================================================
``score``                 The higher detection score: the heuristic merge.
``area``                  The smaller mask. COCO's panoptic maps seem painted from large to small.
``shr``                   Spatial hierarchy (Wang et al. 2019): the one whose box lies in the
                          other's box.
``srm``                   The higher ranking score of a learned head (OANet, Liu et al. 2019).
``occlusion``             The more probable order of an occlusion head (OCFusion, Lazarow et al.
                          2020; with category priors REFINE's Strong Baseline).
``soft_occlusion``        The same, weighed against the scores (REFINE, eq. 7).
``oracle``                The ground truth (:mod:`refine.fusion.true_order`).
========================  ==========================================================================

Every rule gives each pair ``(i, j)``, i of the higher score, a *preference*: above 0 i is on top,
below 0 j is, 0 is a tie and goes to the score, and NaN means that the rule has no opinion.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from refine.errors import RefineError
from refine.fusion.merge import Instance, Relations
from refine.fusion.overlaps import Overlaps
from refine.fusion.true_order import true_order
from refine.options import RelationsOptions
from refine.options.fusion import LEARNED, RELATIONS
from refine.types import GroundTruth, RawPrediction

_Answers = TypeVar("_Answers")


@dataclass(frozen=True, slots=True, eq=False)
class OverlappingPairs:
    """The K pairs of instances ``(i, j)`` that a relation is asked about, i of the higher score.

    Attributes:
        pairs: ``[K, 2]`` int64 positions in ``instances``.
        instances: Instances by descending score, with their masks at original size.
        scores: ``[K, 2]`` float64 detection scores in [0, 1].
        labels: ``[K, 2]`` int64 contiguous thing categories.
        areas: ``[K, 2]`` float64 pixels of the masks.
        raw: Output of the network.
        truth: Ground truth of the image, if there is one.
        options: Settings of ``fusion.relations``.
    """

    pairs: np.ndarray
    instances: Sequence[Instance]
    scores: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    raw: RawPrediction
    truth: GroundTruth | None
    options: RelationsOptions

    @property
    def detections(self) -> np.ndarray:
        """``[K, 2]`` int64 positions in the network's output."""
        indices = np.array([i.index for i in self.instances], np.int64)
        if (indices < 0).any():
            raise ValueError("an instance does not say which detection it is (index)")
        detections: np.ndarray = indices[self.pairs]
        return detections

    @property
    def boxes(self) -> np.ndarray:
        """``[K, 2, 4]`` float64 xyxy in pixels of the network's input."""
        boxes: np.ndarray = self.raw.boxes.double().cpu().numpy()[self.detections]
        return boxes

    @property
    def occlusions(self) -> np.ndarray:
        """``[K, 2]`` float64 ``O(i, j)`` and ``O(j, i)`` in [0, 1], of head ``relations.head``.

        A :class:`RefineError` if there is no such head, or it was not asked about a pair.
        """
        return _read_occlusions(self)


Rule = Callable[[OverlappingPairs], np.ndarray]
"""Of every pair ``[K]`` preferences, as the head of this module says."""


def register_relation(name: str, *, asks_head: bool = False) -> Callable[[Rule], Rule]:
    """Make a function a choice of ``fusion.relations.kind``.

    It takes :class:`OverlappingPairs` and gives each pair ``(i, j)`` a number: above 0 i lies on
    top, below 0 j does, 0 leaves it to the scores, NaN leaves the pair without a relation. A
    ``ValueError`` if this package has the name itself.

    Args:
        name: Name on the command line, with ``plugins=[MODULE]`` for the module that holds it.
        asks_head: Whether it reads :attr:`OverlappingPairs.occlusions`.

    Example:
        >>> import refine
        >>> @refine.register_relation("lower")
        ... def prefer_lower(pairs):
        ...     bottoms = pairs.boxes[..., 3]
        ...     return bottoms[:, 0] - bottoms[:, 1]
    """
    RELATIONS.check_free(name)

    def register(rule: Rule) -> Rule:
        RELATIONS.added[name] = (rule, asks_head)
        return rule

    return register


def asks_head(kind: str) -> bool:
    """Whether a relation reads the answers of a head."""
    return kind in LEARNED or (kind in RELATIONS.added and RELATIONS.added[kind][1])


def relate(
    instances: Sequence[Instance],
    overlaps: Overlaps,
    options: RelationsOptions,
    *,
    raw: RawPrediction,
    truth: GroundTruth | None = None,
) -> Relations:
    """Ask about every pair of instances that overlap enough.

    These are the pairs of which ``overlap_thresh`` of either mask lies in the other, without
    ``intra_category`` only those of different categories. The instances come by descending score
    and with their ``index`` in ``raw``; only ``oracle`` reads ``truth``.

    Raises:
        RefineError: The rule needs a head, an answer or a ground truth that is not there, or has
            values out of their range.
        ValueError: The instances are not in order of score.
    """
    scores = np.array([i.score for i in instances], np.float64)
    if (np.diff(scores) > 0).any():
        raise ValueError("instances have to come by descending score")
    labels = np.array([i.label for i in instances], np.int64)
    pairs = overlaps.pairs[(overlaps.shares >= options.overlap_thresh).any(axis=1)]
    if not options.intra_category:
        pairs = pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]]
    areas = overlaps.areas[pairs].astype(np.float64)
    query = OverlappingPairs(
        pairs, instances, scores[pairs], labels[pairs], areas, raw, truth, options
    )
    preferences = _ask(query)
    on_top = np.where(np.isnan(preferences), 0, np.where(preferences < 0, -1, 1))
    return Relations(pairs, on_top.astype(np.int8), np.abs(np.nan_to_num(preferences)))


def _ask(query: OverlappingPairs) -> np.ndarray:
    kind = query.options.kind
    if kind in _RULES:
        return _RULES[kind](query)
    preferences = np.asarray(RELATIONS.added[kind][0](query))
    if preferences.shape != (len(query.pairs),) or preferences.dtype.kind not in "fiub":
        raise RefineError(
            f"fusion.relations.kind={kind} gave {preferences.dtype} of shape {preferences.shape} "
            f"for {len(query.pairs)} pairs; expected one number for each"
        )
    return preferences.astype(np.float64)


def prefer_by_soft_occlusion(
    scores: np.ndarray, occlusions: np.ndarray, *, sigma: float
) -> np.ndarray:
    """Eq. 7: a score is damped by how improbable it is that its instance lies on top.

    With ``O~(i, j) = s_i exp(-(O(i, j) - 1)^2 / sigma)``, i is on top if ``O~(i, j) > O~(j, i)``.
    If ``O(j, i) = 1 - O(i, j)``, that is ``O(i, j) > 1/2 - sigma/2 ln(s_i / s_j)``: a small sigma
    leaves the decision to the occlusion, a large one to the score.

    Args:
        scores: ``[K, 2]`` float64 ``(s_i, s_j)`` in (0, 1].
        occlusions: ``[K, 2]`` float64 ``(O(i, j), O(j, i))`` in [0, 1].
        sigma: Above 0.

    Returns:
        ``[K]`` float64 ``O~(i, j) - O~(j, i)``, with the sign of the difference of logarithms,
        because the exponentials of a small sigma are zero.

    Raises:
        RefineError: A value is out of its range.
    """
    if not sigma > 0:
        raise RefineError(f"relations.sigma={sigma}: expected a number above 0")
    if not (scores > 0).all():
        raise RefineError(
            "soft occlusion needs scores above 0: set fusion.merge.score_thresh above 0 or "
            "choose fusion.relations.kind=occlusion"
        )
    logs = np.log(scores) - (occlusions - 1) ** 2 / sigma
    sizes = np.abs(_lead(np.exp(logs)))
    differences = _lead(logs)
    smallest = np.finfo(np.float64).tiny
    return np.where(differences == 0, 0.0, np.copysign(np.maximum(sizes, smallest), differences))


def _prefer_by_hierarchy(query: OverlappingPairs) -> np.ndarray:
    """A (continuous) box inside another is on top; if both are, the one of the higher score."""
    boxes = query.boxes
    sides = boxes[..., 2:] - boxes[..., :2]
    common = boxes[..., 2:].min(axis=1) - boxes[..., :2].max(axis=1)
    shares = common.clip(0).prod(axis=1)[:, None] / sides.prod(axis=2)
    is_inside = shares > query.options.shr_box_frac
    return np.where(is_inside[:, 0], shares[:, 0], np.where(is_inside[:, 1], -shares[:, 1], np.nan))


def _prefer_by_ranking(query: OverlappingPairs) -> np.ndarray:
    """A ranking says nothing within one category: its score is that of the category's mask."""
    name = query.options.head
    ranking = _head(query.raw.rankings, name, "ranking").double().cpu().numpy()
    if not np.isfinite(ranking).all():
        raise RefineError(f"ranking head {name!r} gave NaN or infinity: train it again")
    is_one_category = query.labels[:, 0] == query.labels[:, 1]
    return np.where(is_one_category, np.nan, _lead(ranking[query.detections]))


def _prefer_by_truth(query: OverlappingPairs) -> np.ndarray:
    if query.truth is None:
        raise RefineError(
            "fusion.relations.kind=oracle needs ground truth: choose it in an evaluation, not to "
            "predict"
        )
    return true_order(query.instances, query.pairs, query.truth)


def _read_occlusions(query: OverlappingPairs) -> np.ndarray:
    name = query.options.head
    answers = _head(query.raw.occlusions, name, "occlusion")
    probabilities = answers.probabilities.double().cpu().numpy()
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise RefineError(f"occlusion head {name!r} gave values outside [0, 1]: train it again")
    table = np.full((len(query.raw.scores),) * 2, -1.0)  # -1: never asked
    upper, lower = answers.pairs.cpu().numpy().T
    table[upper, lower] = probabilities
    i, j = query.detections.T
    found = np.stack([table[i, j], table[j, i]], axis=1)
    if (found < 0).any():
        pair = query.detections[(found < 0).any(axis=1)][0].tolist()
        raise RefineError(
            f"occlusion head {name!r} was not asked about detections {pair[0]} and {pair[1]} (it "
            f"answers {len(probabilities)} ordered pairs): raise "
            "fusion.relations.overlap_thresh or fusion.merge.score_thresh to those of its run"
        )
    return found


def _head(heads: Mapping[str, _Answers], name: str, kind: str) -> _Answers:
    if name in heads:
        return heads[name]
    known = f"set fusion.relations.head to one of: {', '.join(heads)}"
    offer = known if heads else "they have none"
    raise RefineError(f"these predictions have no {kind} head {name!r}: {offer}")


def _lead(values: np.ndarray) -> np.ndarray:
    """``[K]``: how much more i has than j, from ``[K, 2]``."""
    lead: np.ndarray = values[:, 0] - values[:, 1]
    return lead


_RULES: dict[str, Rule] = {
    "score": lambda query: _lead(query.scores),
    "area": lambda query: -_lead(query.areas) / query.areas.max(axis=1),
    "shr": _prefer_by_hierarchy,
    "srm": _prefer_by_ranking,
    "occlusion": lambda query: _lead(query.occlusions),
    "soft_occlusion": lambda query: prefer_by_soft_occlusion(
        query.scores, query.occlusions, sigma=query.options.sigma
    ),
    "oracle": _prefer_by_truth,
}
