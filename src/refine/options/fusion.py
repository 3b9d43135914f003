"""What happens after the network."""

from dataclasses import dataclass, field

from refine.options.checks import FRACTION, POSITIVE, Choices, Options, knob, one_of

RELATIONS = Choices(
    "relation", "score", "area", "shr", "srm", "occlusion", "soft_occlusion", "oracle"
)
LEARNED = ("srm", "occlusion", "soft_occlusion")
"""Relations of this package that ask a head."""


@dataclass(kw_only=True)
class UnknownErasingOptions(Options, section="fusion.unknown_erasing"):
    """Unknown Erasing: uncertain connected regions of the semantic map become void.

    Attributes:
        mode: ``off``, ``score`` (the paper's) or ``oracle`` (erases exactly the stuff segments that
            match no true one: the most that erasing can gain; needs ground truth).
        score_thresh: Least mean probability that a region needs for its own category to be kept.
        dilation_frac: Radius that joins fragments, as a share of the input's short side.
        at: ``stride4`` scores cells of the logits; ``input`` every network pixel, much slower.
        categories: ``stuff``, or ``all``, with the same panoptic map (its things are masks).
    """

    mode: str = knob("off", one_of(("off", "score", "oracle")))
    score_thresh: float = knob(0.5, FRACTION)
    dilation_frac: float = knob(1 / 16, FRACTION)
    at: str = knob("stride4", one_of(("stride4", "input")))
    categories: str = knob("stuff", one_of(("stuff", "all")))


@dataclass(kw_only=True)
class RelationsOptions(Options, section="fusion.relations"):
    """Which of two overlapping instances lies on top.

    Attributes:
        kind: ``score`` (higher score on top: the heuristic), ``area`` (smaller over larger),
            ``shr``, ``srm``, ``occlusion`` (hard: OCFusion, Strong Baseline), ``soft_occlusion``
            (SOE, eq. 7), ``oracle`` (true order, needs ground truth), or one that
            :func:`refine.register_relation` adds.
        overlap_thresh: Least share of either mask inside the other for a pair to be asked (rho).
        intra_category: Whether pairs of one category are asked about, too.
        sigma: Weight of score (large) against occlusion (small) in ``soft_occlusion``.
        shr_box_frac: Least share of a box inside the other box that puts it on top in ``shr``.
        head: Name of the occlusion or ranking head that answers.
    """

    kind: str = knob("score", RELATIONS.range)
    overlap_thresh: float = knob(0.2, FRACTION)
    intra_category: bool = True
    sigma: float = knob(2.5, POSITIVE)
    shr_box_frac: float = knob(0.5, FRACTION)
    head: str = "occlusion"


@dataclass(kw_only=True)
class MergeOptions(Options, section="fusion.merge"):
    """The panoptic merge (algorithm in :mod:`refine.fusion.merge`).

    Attributes:
        score_thresh: Least score of a detection.
        overlap_thresh: Maximum share of a detection's mask that may be taken already.
        mask_thresh: Least pasted probability of a pixel that belongs to a mask.
        overlap_rule: A detection is left out if the taken share is above ``overlap_thresh``
            (``covered``, heuristic) or the visible one at or below it (``visible``, OCFusion).
        order: ``score``: instances come by score and later ones reclaim pixels; ``topological``:
            they are painted from bottom to top, cycles cut at their weakest relation.
    """

    score_thresh: float = knob(0.5, FRACTION)
    overlap_thresh: float = knob(0.5, FRACTION)
    mask_thresh: float = knob(0.5, FRACTION)
    overlap_rule: str = knob("covered", one_of(("covered", "visible")))
    order: str = knob("score", one_of(("score", "topological")))


@dataclass(kw_only=True)
class FusionOptions(Options, section="fusion"):
    """What happens after the network; sections have their own classes.

    Attributes:
        panoptic_only: Whether masks and IBPP run only on the detections that the merge can use:
            faster, but there is no AP, and with a canvas threshold below ``merge.score_thresh`` the
            masks of weak detections no longer reach the semantic head.
        semantic_resize: Semantic logits go from stride 4 to the original size ``direct`` or in
            ``two_steps``, by way of the input's size (detectron2: slower, 1.5 % of pixels differ).
    """

    panoptic_only: bool = False
    unknown_erasing: UnknownErasingOptions = field(default_factory=UnknownErasingOptions)
    relations: RelationsOptions = field(default_factory=RelationsOptions)
    merge: MergeOptions = field(default_factory=MergeOptions)
    semantic_resize: str = knob("direct", one_of(("direct", "two_steps")))
