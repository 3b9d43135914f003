"""How far the semantic map and the instances of one image are from saying the same.

A pixel is in dispute if the semantic map calls it a thing and no instance covers it, or calls it
stuff and an instance does. Which thing and which stuff is not asked: IBPP's claim is that the two
branches agree on what is foreground. The numbers are of the branches before the merge, so instances
that the merge would reject count, and stuff that would be too small counts as stuff.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refine.fusion.evidence import paste_instances
from refine.fusion.merge import Instance
from refine.fusion.semantic import semantic_map
from refine.options import MergeOptions
from refine.types import IGNORE_INDEX, IterationTrace, RawPrediction

_BAND_FRAC = 1 / 32
_MIN_BAND_PX = 2


@dataclass(frozen=True, slots=True)
class ConsensusGap:
    """Pixel counts of one image or, added up, of many: ``sum(gaps, start=ConsensusGap())``.

    Attributes:
        num_pixels: All pixels.
        num_bare_things: Semantically a thing, covered by no instance.
        num_covered_stuff: Semantically stuff, covered by an instance.
        num_band: Pixels outside every instance, but near one.
        num_band_void: Those of the band that are not stuff: nothing paints them, so they become
            void in the merge.
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
        return ConsensusGap(
            num_pixels=self.num_pixels + other.num_pixels,
            num_bare_things=self.num_bare_things + other.num_bare_things,
            num_covered_stuff=self.num_covered_stuff + other.num_covered_stuff,
            num_band=self.num_band + other.num_band,
            num_band_void=self.num_band_void + other.num_band_void,
        )


def consensus_gap(raw: RawPrediction, *, num_things: int, options: MergeOptions) -> ConsensusGap:
    """The gap of one image, at original size.

    Args:
        raw: The network's output for one image, on any device.
        num_things: Categories from here on are stuff.
        options: ``score_thresh`` and ``mask_thresh`` say what an instance covers.
    """
    return count_disputed(_semantic_map(raw), paste_instances(raw, options), num_things=num_things)


def consensus_gaps(
    traces: Sequence[IterationTrace], *, num_things: int, options: MergeOptions
) -> list[ConsensusGap]:
    """The gap of one image after each iteration of IBPP.

    Iteration 0 has no masks of its own. Its semantic map is compared with those of iteration 1,
    which have read it while it has not read them; what falls from 0 to 1 is the semantic map's
    answer to the instances.

    Args:
        traces: Of one image, iterations 0 to T in order.
        num_things: Categories from here on are stuff.
        options: ``score_thresh`` and ``mask_thresh`` say what an instance covers.
    """
    instances = [paste_instances(trace.raw, options) for trace in traces]
    if len(traces) > 1:
        instances[0] = instances[1]
    return [
        count_disputed(_semantic_map(trace.raw), pasted, num_things=num_things)
        for trace, pasted in zip(traces, instances, strict=True)
    ]


def count_disputed(
    semantic: np.ndarray,
    instances: Sequence[Instance],
    *,
    num_things: int,
    band_px: int | None = None,
) -> ConsensusGap:
    """The gap between a semantic map and instances that are already at original size.

    Args:
        semantic: ``[H, W]`` integer, contiguous category or 255 (void). Void is in no dispute, but
            it stays void in the band.
        instances: All of them count; the caller has applied the score limit.
        num_things: Categories from here on are stuff.
        band_px: How far the band reaches from the nearest instance, diagonal steps counting as one
            (at least 0); None: 1/32 of the image's short side, at least 2.
    """
    covered = np.zeros(semantic.shape, bool)
    for instance in instances:
        covered[instance.crop.slices] |= instance.crop.mask
    thing = semantic < num_things
    stuff = ~thing & (semantic != IGNORE_INDEX)
    band = _dilate(covered, _default_band(semantic) if band_px is None else band_px) & ~covered
    return ConsensusGap(
        num_pixels=semantic.size,
        num_bare_things=int(np.count_nonzero(thing & ~covered)),
        num_covered_stuff=int(np.count_nonzero(stuff & covered)),
        num_band=int(np.count_nonzero(band)),
        num_band_void=int(np.count_nonzero(band & ~stuff)),
    )


def _semantic_map(raw: RawPrediction) -> np.ndarray:
    return semantic_map(raw.semantic_logits, raw.image_size, raw.original_size)


def _default_band(semantic: np.ndarray) -> int:
    return max(_MIN_BAND_PX, int(min(semantic.shape) * _BAND_FRAC))


def _dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    """Pixels at most ``radius`` rows and columns from the mask; time does not grow with radius."""
    return _spread(_spread(mask, radius).T, radius).T


def _spread(mask: np.ndarray, radius: int) -> np.ndarray:
    """Along the rows: is there a True within ``radius`` columns?"""
    height, width = mask.shape
    sums = np.zeros((height, width + 1), np.int32)
    np.cumsum(mask, axis=1, out=sums[:, 1:])
    columns = np.arange(width)
    after, before = np.minimum(columns + radius + 1, width), np.maximum(columns - radius, 0)
    found: np.ndarray = sums[:, after] > sums[:, before]
    return found
