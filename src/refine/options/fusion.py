"""What happens after the network."""

from dataclasses import dataclass, field

from refine.options.checks import check_fractions


@dataclass(kw_only=True)
class MergeOptions:
    """Heuristic panoptic merge (Kirillov et al. 2019; algorithm in :mod:`refine.fusion.merge`).

    Attributes:
        score_thresh: Detections below this score are left out.
        overlap_thresh: A detection is left out if more than this share of its mask is taken.
        mask_thresh: A pixel belongs to a mask if its pasted probability reaches this value.
    """

    score_thresh: float = 0.5
    overlap_thresh: float = 0.5
    mask_thresh: float = 0.5

    def __post_init__(self) -> None:
        check_fractions(self, "score_thresh", "overlap_thresh", "mask_thresh")


@dataclass(kw_only=True)
class FusionOptions:
    """What happens after the network.

    Attributes:
        merge: The panoptic merge.
    """

    merge: MergeOptions = field(default_factory=MergeOptions)
