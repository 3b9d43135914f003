"""The ranking network (OANet's spatial ranking module, a rival of the occlusion network)."""

from dataclasses import dataclass

from refine.options.checks import check


@dataclass(kw_only=True)
class RankingOptions:
    """Which category lies on top where masks of several categories overlap (Liu et al. 2019).

    Attributes:
        kernel_size: Of the two one-dimensional convolutions, in cells of the stride-4 map.
    """

    kernel_size: int = 7

    def __post_init__(self) -> None:
        size = self.kernel_size
        check(size > 0 and size % 2 == 1, "ranking.head.kernel_size", size, "an odd number")
