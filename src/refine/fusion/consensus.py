"""How far the semantic map and the instances of one image disagree.

A pixel is in dispute if the semantic map calls it a thing and no instance covers it, or calls it
stuff and an instance does. The branches are compared before the merge, so instances that the merge
would reject count, and stuff that would be too small counts as stuff.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from scipy.ndimage import maximum_filter

from refine.fusion.evidence import Evidence
from refine.fusion.merge import Instance
from refine.options import MergeOptions
from refine.types import IGNORE_INDEX


@dataclass(frozen=True, slots=True)
class ConsensusGap:
    """Pixel counts of one image or, added up, of many: ``sum(gaps, start=ConsensusGap())``.

    Attributes:
        num_pixels: All pixels.
        num_bare_things: Pixels that are semantically a thing and covered by no instance.
        num_covered_stuff: Pixels that are semantically stuff and covered by an instance.
        num_band: Pixels outside every instance, but near one.
        num_band_void: Pixels of the band that are not stuff: nothing will paint them.
    """

    num_pixels: int = 0
    num_bare_things: int = 0
    num_covered_stuff: int = 0
    num_band: int = 0
    num_band_void: int = 0

    @property
    def gap(self) -> float:
        """Share of pixels in dispute, in [0, 1]; 0 without pixels."""
        return (self.num_bare_things + self.num_covered_stuff) / max(self.num_pixels, 1)

    @property
    def band_void(self) -> float:
        """Share of the band that becomes void, in [0, 1]; 0 without a band."""
        return self.num_band_void / max(self.num_band, 1)

    def __add__(self, other: "ConsensusGap") -> "ConsensusGap":
        return ConsensusGap(*map(sum, zip(astuple(self), astuple(other), strict=True)))


def consensus_gap(evidence: Evidence, options: MergeOptions) -> ConsensusGap:
    """The gap of one image; ``score_thresh`` and ``mask_thresh`` say what an instance covers."""
    return count_disputed(
        evidence.semantic_map(), evidence.instances(options), num_things=evidence.num_things
    )


def count_disputed(
    semantic: np.ndarray,
    instances: Sequence[Instance],
    *,
    num_things: int,
    band_px: int | None = None,
) -> ConsensusGap:
    """The gap between ``[H, W]`` contiguous categories, or 255 (void), and instances of that size.

    Void is in no dispute. The band reaches ``band_px`` pixels (Chebyshev distance) from the nearest
    instance; None: 1/32 of the image's short side, at least 2.
    """
    if band_px is None:
        band_px = max(2, min(semantic.shape) // 32)
    covered = np.zeros(semantic.shape, bool)
    for instance in instances:
        covered[instance.crop.slices] |= instance.crop.mask
    thing = semantic < num_things
    stuff = ~thing & (semantic != IGNORE_INDEX)
    band = maximum_filter(covered, 2 * band_px + 1, mode="constant") & ~covered
    counts = (thing & ~covered, stuff & covered, band, band & ~stuff)
    return ConsensusGap(semantic.size, *(int(np.count_nonzero(c)) for c in counts))
