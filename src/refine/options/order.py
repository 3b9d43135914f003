"""Networks that order overlapping instances, and their training on a finished detector."""

from dataclasses import dataclass, field

from refine.options.checks import CHANNELS, POSITIVE, Options, Range, between, knob, one_of
from refine.options.optimisation import OptimizerOptions, ScheduleOptions

_ODD = Range(lambda value: 0 < value < 256 and value % 2 == 1, "an odd number below 256")
# names of heads become keys of state dicts and of caches
_NAMED = Range(
    lambda heads: bool(heads) and all(map(str.isidentifier, heads)),
    "at least one head, with a name of letters, digits and _",
)


@dataclass(kw_only=True)
class OcclusionOptions(Options, section="occlusion"):
    """Network that predicts which of two overlapping instances lies on top (paper, table 6).

    Attributes:
        use_mask: Whether it reads the predicted masks of both instances.
        use_feature: Whether it reads the RoI features of both.
        use_label: Whether it reads the categories of both.
        channels: Channels of its convolutions.
        num_convs: Number of 3x3 convolutions up to the one of stride 2, at least 1.
        fc_channels: Width of its two fully connected layers.
        antisymmetric: Whether O(i, j) + O(j, i) = 1 by construction.
        chunk_size: Maximum pairs computed at a time in inference.
    """

    use_mask: bool = True
    use_feature: bool = True
    use_label: bool = True
    channels: int = knob(512, CHANNELS)
    num_convs: int = knob(3, between(1, 64))
    fc_channels: int = knob(1024, CHANNELS)
    antisymmetric: bool = False
    chunk_size: int = knob(256, POSITIVE)

    def __post_init__(self) -> None:
        super().__post_init__()
        reads = self.use_mask or self.use_feature or self.use_label
        self.require(reads, "use_mask", "at least one input with use_feature=use_label=false")


@dataclass(kw_only=True)
class RankingOptions(Options, section="ranking"):
    """OANet's spatial ranking module (Liu et al. 2019), a rival of the occlusion network.

    Attributes:
        kernel_size: Odd length of the two one-dimensional convolutions, in cells of stride 4.
    """

    kernel_size: int = knob(7, _ODD)


@dataclass(kw_only=True)
class OcclusionStageOptions(Options, section="occlusion"):
    """Training of occlusion networks (paper: 3 epochs; the authors' earlier code).

    Attributes:
        heads: Networks by name; several learn side by side, independently, at little more cost.
        pairs: Training instances: ``ground_truth`` (true boxes and labels, predicted masks in
            them) or ``predicted`` (detections matched to true instances, OCFusion's way).
        max_pairs: Maximum pairs per image and training step; each counts in both orders.
        batch_size: Images per training step, over all devices together.
        optimizer: Optimizer of these heads.
        schedule: Learning rate and length of this stage.
    """

    heads: dict[str, OcclusionOptions] = knob({"strong": OcclusionOptions()}, _NAMED)
    pairs: str = knob("ground_truth", one_of(("ground_truth", "predicted")))
    max_pairs: int = knob(128, POSITIVE)
    batch_size: int = knob(16, POSITIVE)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)


@dataclass(kw_only=True)
class RankingStageOptions(Options, section="ranking"):
    """Training of ranking networks (on true masks; 3 epochs).

    Attributes:
        heads: Networks by name.
        batch_size: Images per training step, over all devices together.
        optimizer: Optimizer of these heads.
        schedule: Learning rate and length of this stage.
    """

    heads: dict[str, RankingOptions] = knob({"srm": RankingOptions()}, _NAMED)
    batch_size: int = knob(16, POSITIVE)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
