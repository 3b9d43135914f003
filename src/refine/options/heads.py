"""The second stage: heads that order instances, trained on a finished detector."""

from dataclasses import dataclass, field

from refine.options.checks import check, check_choice, check_positive
from refine.options.occlusion import OcclusionOptions
from refine.options.optimisation import OptimizerOptions, ScheduleOptions
from refine.options.ranking import RankingOptions


@dataclass(kw_only=True)
class OcclusionStageOptions:
    """Occlusion networks and their training (paper: 3 epochs; authors' earlier code).

    Attributes:
        heads: The networks by name. Several learn side by side from the same frozen features:
            that costs little more than one, and they stay as independent as in runs of their own.
        pairs: What they are trained on: ``ground_truth`` (true boxes and labels, predicted masks in
            them) or ``predicted`` (detections matched to true instances, OCFusion's way).
        max_pairs: Pairs of an image that are drawn for a step; each counts in both orders.
        batch_size: Images a training step, over all devices together.
        optimizer: Optimiser.
        schedule: Learning rate and length.
    """

    heads: dict[str, OcclusionOptions] = field(
        default_factory=lambda: {"strong": OcclusionOptions()}
    )
    pairs: str = "ground_truth"
    max_pairs: int = 128
    batch_size: int = 16
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)

    def __post_init__(self) -> None:
        check(bool(self.heads), "occlusion.heads", self.heads, "at least one")
        check_names("occlusion.heads", self.heads)
        check_choice("occlusion.pairs", self.pairs, ("ground_truth", "predicted"))
        check_positive(self, "max_pairs", "batch_size")


@dataclass(kw_only=True)
class RankingStageOptions:
    """The ranking network and its training (on true masks; 3 epochs).

    Attributes:
        heads: The networks by name.
        batch_size: Images a training step, over all devices together.
        optimizer: Optimiser.
        schedule: Learning rate and length.
    """

    heads: dict[str, RankingOptions] = field(default_factory=lambda: {"srm": RankingOptions()})
    batch_size: int = 16
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)

    def __post_init__(self) -> None:
        check(bool(self.heads), "ranking.heads", self.heads, "at least one")
        check_names("ranking.heads", self.heads)
        check_positive(self, "batch_size")


def check_names(name: str, heads: dict[str, OcclusionOptions] | dict[str, RankingOptions]) -> None:
    """Names of heads become keys of state dicts and of caches."""
    for head in heads:
        check(head.isidentifier(), name, head, "names of letters, digits and _")
