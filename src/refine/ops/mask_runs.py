"""Masks as COCO's run lengths, many at once: checked, cropped and painted without decoding them.

Pixels are numbered column by column, ``x * height + y``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from refine.types import CodedMask, MaskCrop

_NO_RUNS = np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class MaskRuns:
    """The pixels of N masks, as R runs of which none is empty.

    Attributes:
        starts: ``[R]`` int64 or int32 first pixel of each run, ascending within a mask.
        stops: ``[R]`` of the same type: pixel after the last one of each run.
        offsets: ``[N + 1]`` int64: mask ``k`` owns runs ``offsets[k] .. offsets[k + 1] - 1``.
    """

    starts: np.ndarray
    stops: np.ndarray
    offsets: np.ndarray

    @classmethod
    def join(cls, parts: "Sequence[MaskRuns]") -> "MaskRuns":
        """All masks of the parts; with int32 pixels, as many are kept."""
        shifts = np.cumsum([0, *(len(part.starts) for part in parts)])
        offsets = [part.offsets[1:] + s for part, s in zip(parts, shifts[:-1], strict=True)]
        return cls(
            np.concatenate([_NO_RUNS, *(part.starts for part in parts)], dtype=np.int32),
            np.concatenate([_NO_RUNS, *(part.stops for part in parts)], dtype=np.int32),
            np.concatenate([[0], *offsets], dtype=np.int64),
        )

    def part(self, first: int, last: int) -> "MaskRuns":
        """The masks ``first .. last - 1``."""
        offsets = self.offsets[first : last + 1]
        runs = slice(offsets[0], offsets[-1])
        return MaskRuns(self.starts[runs], self.stops[runs], offsets - offsets[0])

    def crops(self, heights: ArrayLike) -> list[MaskCrop]:
        """The tight crop of each mask, column by column in memory.

        ``heights`` are the ``[N]`` heights of the masks' images, or that of all.
        """
        counts = np.diff(self.offsets)
        heights = np.repeat(np.broadcast_to(heights, len(counts)), counts)
        left, top, right, bottom = boxes = np.zeros((4, len(counts)), np.int64)
        filled = counts > 0
        firsts, lasts = self.offsets[:-1][filled], self.offsets[1:][filled] - 1
        from_x, to_x = self.starts // heights, (self.stops - 1) // heights
        from_y, to_y = self.starts - from_x * heights, self.stops - 1 - to_x * heights
        goes_on = from_x < to_x  # in the next column
        left[filled], right[filled] = from_x[firsts], to_x[lasts] + 1
        top[filled] = np.minimum.reduceat(np.where(goes_on, 0, from_y), firsts)
        bottom[filled] = np.maximum.reduceat(np.where(goes_on, heights, to_y + 1), firsts)
        # one crop after the other; if a run goes on, the crop is as high as the image
        high = bottom - top
        ends = np.cumsum(high * (right - left))
        origins, high = np.repeat(ends - high * right - top, counts), np.repeat(high, counts)
        runs = from_x * high + from_y + origins, to_x * high + to_y + 1 + origins
        inside = np.ones(len(high), bool)
        pixels = paint_runs(*runs, inside, (1, int(ends[-1:].sum())), background=False)[0]
        return [
            MaskCrop(y0, x0, pixels[end - (x1 - x0) * (y1 - y0) : end].reshape(x1 - x0, y1 - y0).T)
            for end, (x0, y0, x1, y1) in zip(ends.tolist(), boxes.T.tolist(), strict=True)
        ]


def paint_runs(
    starts: np.ndarray,
    stops: np.ndarray,
    values: np.ndarray,
    shape: tuple[int, int],
    *,
    background: float,
) -> np.ndarray:
    """``shape`` pixels of which those of run k are ``values[k]``; ``[R]`` ascending runs."""
    lengths = np.empty(2 * len(starts) + 1, np.int64)
    lengths[:-1:2], lengths[-1] = starts, shape[0] * shape[1]
    lengths[2::2] -= stops
    lengths[1::2] = stops - starts
    painted = np.full(len(lengths), background, values.dtype)
    painted[1::2] = values
    return np.repeat(painted, lengths).reshape(shape)


def unpack_masks(masks: Sequence[CodedMask]) -> MaskRuns:
    """The runs of masks, each counted from its own first pixel.

    Raises:
        ValueError: The runs of a mask do not add up to its pixels, or make no sense.
    """
    numbers, counts = _unpack_numbers([m.counts for m in masks])
    # gaps and runs take turns, and a string may end with a gap
    is_odd, rows = counts % 2 == 1, (counts + 1) // 2
    lasts = np.cumsum(rows) - 1
    firsts = lasts - rows + 1
    places = np.arange(len(numbers)) + np.repeat(np.cumsum(is_odd) - is_odd, counts)
    turns = np.zeros(2 * rows.sum(), np.int64)
    turns[places] = numbers
    # from the fourth on, a number is the difference to the one two before
    heads = turns[2 * firsts]
    gaps = _accumulate(turns[::2], firsts, rows) - np.repeat(heads, rows)
    gaps[firsts] = heads
    lengths = _accumulate(turns[1::2], firsts, rows)
    lengths[lasts[is_odd]] = 0
    stops = _accumulate(gaps + lengths, firsts, rows)
    pixels = np.array([m.height * m.width for m in masks])
    if min(gaps.min(initial=0), lengths.min(initial=0)) < 0 or (stops[lasts] != pixels).any():
        raise ValueError("the runs do not cover the image")
    kept = lengths > 0
    stops, offsets = stops[kept], np.append(0, np.cumsum(kept)[lasts])
    return MaskRuns(stops - lengths[kept], stops, offsets)


def _accumulate(values: np.ndarray, firsts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Running sums that begin anew at ``firsts``, which are ``counts`` apart."""
    sums = np.cumsum(values)
    sums -= np.repeat(sums[firsts] - values[firsts], counts)
    return sums


def _unpack_numbers(packed: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers in COCO's strings, int64, and how many each string has.

    They are to base 32, low digit first. A character is 48 plus its digit, plus 32 if more follow;
    bit 16 of the last is the sign.
    """
    digits = np.frombuffer(b"".join(packed), np.uint8) - np.uint8(48)
    stops = np.cumsum([len(string) for string in packed], dtype=np.int64)
    if not all(packed) or digits.max(initial=0) > 63 or (digits[stops - 1] & 32).any():
        raise ValueError("no COCO run lengths")
    ends = np.flatnonzero(digits < 32)
    sizes = np.diff(ends, prepend=-1)
    if sizes.max(initial=0) > 7:
        raise ValueError("a run is longer than any image")
    numbers = digits[ends].astype(np.int64)
    numbers -= 2 * (numbers & 16)
    place, longer = 1, np.flatnonzero(sizes > 1)
    while len(longer):
        numbers[longer] = 32 * numbers[longer] + (digits[ends[longer] - place] & 31)
        place += 1
        longer = longer[sizes[longer] > place]
    return numbers, np.diff(np.searchsorted(ends, stops), prepend=0)
