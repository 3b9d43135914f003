"""What happens after the network."""

from dataclasses import dataclass, field

from refine.options.checks import check, check_choice, check_fractions

SEMANTIC_RESIZES = ("direct", "two_steps")
RELATIONS = ("score", "area", "shr", "srm", "occlusion", "soft_occlusion", "oracle")


@dataclass(kw_only=True)
class UnknownErasingOptions:
    """Unknown Erasing: uncertain connected regions of the semantic map become void.

    Attributes:
        mode: ``off``, ``score`` (the paper's) or ``oracle`` (erases exactly the stuff segments
            that match no true one: the most that erasing can give; needs ground truth).
        score_thresh: A region whose mean probability of its own category is lower is erased.
        dilation_frac: Radius that joins fragments, as a share of the network input's short side
            (50 pixels at 800).
        at: ``stride4`` scores the cells of the logits; ``input`` every network pixel (the
            reference form, many times slower).
        categories: ``stuff``, or ``all`` (thing pixels of the semantic map are never painted, so
            it makes no difference to the panoptic map).
    """

    mode: str = "off"
    score_thresh: float = 0.5
    dilation_frac: float = 1 / 16
    at: str = "stride4"
    categories: str = "stuff"

    def __post_init__(self) -> None:
        check_fractions(self, "score_thresh", "dilation_frac")
        check_choice("unknown_erasing.mode", self.mode, ("off", "score", "oracle"))
        check_choice("unknown_erasing.at", self.at, ("stride4", "input"))
        check_choice("unknown_erasing.categories", self.categories, ("stuff", "all"))


@dataclass(kw_only=True)
class RelationsOptions:
    """Which of two overlapping instances lies on top.

    Attributes:
        kind: ``score`` (higher score on top: the heuristic), ``area`` (smaller over larger),
            ``shr``, ``srm``, ``occlusion`` (hard: OCFusion, Strong Baseline), ``soft_occlusion``
            (SOE, eq. 7) or ``oracle`` (true order, needs ground truth).
        overlap_thresh: A pair is asked about if this share of either mask lies in the other
            (rho).
        intra_category: Ask about pairs of one category, too.
        sigma: How much occlusion counts against score in ``soft_occlusion``; small: occlusion
            decides alone, large: score decides alone.
        shr_box_frac: ``shr``: the instance of which this share of the box lies in the other's
            box is on top.
        head: Which of the named occlusion or ranking heads answers.
    """

    kind: str = "score"
    overlap_thresh: float = 0.2
    intra_category: bool = True
    sigma: float = 2.5
    shr_box_frac: float = 0.5
    head: str = "occlusion"

    def __post_init__(self) -> None:
        check_choice("relations.kind", self.kind, RELATIONS)
        check_fractions(self, "overlap_thresh", "shr_box_frac")
        check(self.sigma > 0, "relations.sigma", self.sigma, "a number above 0")


@dataclass(kw_only=True)
class MergeOptions:
    """The panoptic merge (algorithm in :mod:`refine.fusion.merge`).

    Attributes:
        score_thresh: Detections below this score are left out.
        overlap_thresh: A detection is left out if more than this share of its mask is taken.
        mask_thresh: A pixel belongs to a mask if its pasted probability reaches this value.
        overlap_rule: ``covered``: left out if the taken share is above ``overlap_thresh``
            (the heuristic's own rule); ``visible``: if the visible share is at or below it
            (OCFusion).
        order: ``score``: instances come by score and later ones reclaim pixels;
            ``topological``: they are painted from bottom to top, cycles cut at their weakest
            relation.
    """

    score_thresh: float = 0.5
    overlap_thresh: float = 0.5
    mask_thresh: float = 0.5
    overlap_rule: str = "covered"
    order: str = "score"

    def __post_init__(self) -> None:
        check_fractions(self, "score_thresh", "overlap_thresh", "mask_thresh")
        check_choice("merge.overlap_rule", self.overlap_rule, ("covered", "visible"))
        check_choice("merge.order", self.order, ("score", "topological"))


@dataclass(kw_only=True)
class FusionOptions:
    """What happens after the network.

    Attributes:
        panoptic_only: Run masks and IBPP only on the detections that the merge can use: faster,
            but there is no AP, and with a canvas threshold below ``merge.score_thresh`` the
            masks of weak detections no longer reach the semantic head.
        unknown_erasing: Erasing in the semantic map.
        relations: Order of overlapping instances.
        merge: The panoptic merge.
        semantic_resize: How semantic logits get from stride 4 to the original size: ``direct`` in
            one interpolation; ``two_steps`` by way of the network's input size, without padding
            (detectron2: slower, 1.5 % of the pixels differ).
    """

    panoptic_only: bool = False
    unknown_erasing: UnknownErasingOptions = field(default_factory=UnknownErasingOptions)
    relations: RelationsOptions = field(default_factory=RelationsOptions)
    merge: MergeOptions = field(default_factory=MergeOptions)
    semantic_resize: str = "direct"

    def __post_init__(self) -> None:
        check_choice("fusion.semantic_resize", self.semantic_resize, SEMANTIC_RESIZES)
