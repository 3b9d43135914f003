"""The occlusion network (soft occlusion estimation, the paper's second contribution)."""

from dataclasses import dataclass

from refine.options.checks import check, check_positive


@dataclass(kw_only=True)
class OcclusionOptions:
    """Which of two overlapping instances lies on top, by a network (paper, table 6).

    Attributes:
        use_mask: It reads the predicted masks of both.
        use_feature: It reads the RoI features of both.
        use_label: It reads the categories of both.
        channels: Width of its convolutions.
        num_convs: 3x3 convolutions before the one of stride 2.
        fc_channels: Width of its two fully connected layers.
        antisymmetric: O(i, j) + O(j, i) = 1 by construction.
        chunk_size: Pairs that are computed at a time in inference.
    """

    use_mask: bool = True
    use_feature: bool = True
    use_label: bool = True
    channels: int = 512
    num_convs: int = 3
    fc_channels: int = 1024
    antisymmetric: bool = False
    chunk_size: int = 256

    def __post_init__(self) -> None:
        check(
            self.use_mask or self.use_feature or self.use_label,
            "occlusion.use_mask, use_feature, use_label",
            False,
            "at least one input",
        )
        check_positive(self, "channels", "fc_channels", "chunk_size")
        check(self.num_convs >= 1, "occlusion.num_convs", self.num_convs, "1 or more")
