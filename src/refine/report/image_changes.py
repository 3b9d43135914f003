"""Images that a change of settings helps most and harms most, with their pictures."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from refine.report.finished_run import FinishedRun, check_comparable, divide
from refine.viz.image_files import read_image

ImageSource = Callable[[int], dict[str, np.ndarray]]
"""Gives the ``[H, W, 3]`` uint8 pictures of an image id, by caption."""


def compute_image_scores(run: FinishedRun) -> np.ndarray:
    """``[N]`` float64 in [0, 1]: mean PQ over the categories present in each image.

    The mean of these is not PQ, which pools the images before it divides. An image with nothing to
    find in which nothing was found scores 1.
    """
    quality, is_present = divide(run.iou, run.halves)
    number = is_present.sum(axis=1)
    return np.where(number > 0, quality.sum(axis=1) / np.maximum(number, 1), 1.0)


def find_changes(first: FinishedRun, second: FinishedRun) -> pd.DataFrame:
    """The images whose score changes from the first to the second run.

    Returns:
        Columns ``before``, ``after`` and ``change`` (scores in [0, 1]) by ``image_id``, from the
        largest loss to the largest gain; equal ones by image id.

    Raises:
        RefineError: The runs have other images or categories.
    """
    check_comparable(first, second)
    scores = {"before": compute_image_scores(first), "after": compute_image_scores(second)}
    changes = pd.DataFrame(scores, index=pd.Index(first.image_ids, name="image_id"))
    changes["change"] = changes["after"] - changes["before"]
    return changes[changes["change"] != 0].sort_values("change", kind="stable")


def split_changes(changes: pd.DataFrame, number: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The largest losses and the largest gains, at most ``number`` each, the largest first."""
    is_gain = changes["change"] > 0
    gains = changes[is_gain].sort_values("change", ascending=False, kind="stable")
    return changes[~is_gain][:number], gains[:number]


def read_from_folders(folders: dict[str, Path]) -> tuple[ImageSource, set[int]]:
    """Pictures that runs drew themselves (``draw=N``), and the images of which all have one.

    A picture belongs to the image whose id its name ends with, as in COCO and in the toy scenes.

    Args:
        folders: ``pictures/`` of at least one run, by caption.
    """
    paths = {
        caption: {
            int(match[1]): path
            for path in sorted(folder.glob("*.png"))
            if (match := re.search(r"(\d+)$", path.stem))
        }
        for caption, folder in folders.items()
    }
    common = set.intersection(*map(set, paths.values()))
    return lambda image_id: {c: read_image(p[image_id]) for c, p in paths.items()}, common
