"""Which images a change of settings helps, and which it harms."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from refine.report.runs import Run, check_comparable

ImageSource = Callable[[int], dict[str, np.ndarray]]
"""From an image id to ``[H, W, 3]`` uint8 pictures by caption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageChange:
    """One image in two runs.

    Attributes:
        image_id: Id in the JSON.
        before: Score in the first run, in [0, 1].
        after: Score in the second run.
    """

    image_id: int
    before: float
    after: float

    @property
    def change(self) -> float:
        """Positive if the second run is better."""
        return self.after - self.before


def compute_image_scores(run: Run) -> np.ndarray:
    """The quality of each image alone: mean over the categories present in it of its own PQ.

    Their mean is not PQ, which pools the images before it divides. An image with nothing to find
    in which nothing was found scores 1.

    Returns:
        ``[N]`` float64 in [0, 1].
    """
    is_present = run.halves > 0
    quality = np.divide(run.iou, run.halves, out=np.zeros_like(run.iou), where=is_present)
    number = is_present.sum(axis=1)
    return np.where(number > 0, quality.sum(axis=1) / np.maximum(number, 1), 1.0)


def find_largest_changes(
    first: Run, second: Run, *, number: int
) -> tuple[list[ImageChange], list[ImageChange]]:
    """The images that lose most and those that gain most from the first to the second run.

    Args:
        first: A run.
        second: Another run, on the same images.
        number: Of images in each list, at most; images without change are in neither.

    Returns:
        Losses and gains, the largest first; equal ones by image id.

    Raises:
        RefineError: The runs have other images or categories.
    """
    check_comparable(first, second)
    columns = (first.image_ids, compute_image_scores(first), compute_image_scores(second))
    changes = [
        ImageChange(image_id=image_id, before=before, after=after)
        for image_id, before, after in zip(*(c.tolist() for c in columns), strict=True)
    ]
    losses = sorted((c for c in changes if c.change < 0), key=lambda c: c.change)
    gains = sorted((c for c in changes if c.change > 0), key=lambda c: -c.change)
    return losses[:number], gains[:number]
