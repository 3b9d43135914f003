"""Images of a prediction cache with their ground truth, fused and drawn in any way."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from refine.categories import CategoryTable
from refine.config.instantiate import to_options
from refine.data.coco_panoptic import CocoPanopticDataset
from refine.data.datamodule import PanopticDataModule
from refine.fusion.evidence import Evidence
from refine.fusion.fuse import fuse
from refine.metrics.functional import Panoptic, compute_category_quality, match_segments
from refine.options import DataOptions, FusionOptions
from refine.prediction_cache.cache import PredictionReader
from refine.prediction_cache.header import identify_dataset
from refine.report.image_changes import ImageSource
from refine.types import GroundTruth, PanopticPrediction
from refine.viz.overlay import draw_panoptic, resize_panoptic
from refine.viz.panels import fit_size, original_image, resize_image


class CachedImages:
    """A cache beside its dataset.

    Args:
        folder: The cache.
        data_root: Where the dataset lies now; None is where it was.

    Raises:
        RefineError: A bad cache, or another dataset than the one it is of.
    """

    def __init__(self, folder: Path, *, data_root: Path | None = None) -> None:
        self.reader = PredictionReader(folder)
        options = to_options(self.reader.header.checkpoint["config"]["data"], DataOptions)
        if data_root is not None:
            options = replace(options, root=str(data_root))
        datamodule = PanopticDataModule(options, seed=0)
        datamodule.prepare_data()
        datamodule.setup("validate")
        self.options = options
        self.dataset: CocoPanopticDataset = datamodule.val_dataset
        self.reader.require_dataset(
            identify_dataset(self.dataset.files.annotations, self.dataset.image_ids)
        )
        self._places = {image_id: k for k, image_id in enumerate(self.dataset.image_ids)}

    @property
    def categories(self) -> CategoryTable:
        """Categories of the dataset."""
        return self.dataset.categories

    @property
    def image_ids(self) -> list[int]:
        """Image ids in the dataset's order."""
        return self.dataset.image_ids

    def read_truth(self, image_id: int) -> GroundTruth:
        """The ground truth of an image."""
        return self.dataset.read_truth(self._places[image_id])[2]

    def read_image(self, image_id: int) -> np.ndarray:
        """``[H, W, 3]`` uint8 RGB at original size."""
        return original_image(self.dataset[self._places[image_id]])

    def open_evidence(self, image_id: int) -> Evidence:
        """The prediction of an image."""
        return Evidence(self.reader.read(image_id), num_things=self.categories.num_things)

    def fuse(
        self, evidence: Evidence, fusion: FusionOptions, truth: GroundTruth
    ) -> PanopticPrediction:
        """The panoptic map of an image at original size."""
        limit = self.options.stuff_area_limit_px
        return fuse(evidence, fusion, stuff_area_limit_px=limit, truth=truth)

    def score(self, prediction: PanopticPrediction, truth: GroundTruth) -> float:
        """Mean PQ of the categories in the image, as :mod:`refine.report.image_changes` has it."""
        stats = match_segments(prediction, truth, num_categories=len(self.categories))
        quality = compute_category_quality(stats)
        return float(quality.pq[quality.is_present].mean()) if quality.is_present.any() else 1.0

    def draw(self, image: np.ndarray, panoptic: Panoptic) -> np.ndarray:
        """Its overlay, small images enlarged so that the names can be read."""
        size = fit_size(*image.shape[:2])
        return draw_panoptic(
            resize_image(image, size), resize_panoptic(panoptic, size), self.categories
        )


def open_pictures(
    configs: Mapping[str, Mapping[str, Any]],
    folders: Mapping[str, Path],
    *,
    data_root: Path | None = None,
) -> ImageSource:
    """Pictures of ground truth and of the predictions of some runs, each with its own fusion.

    Args:
        configs: Configurations of the runs by caption, on one dataset.
        folders: Their caches by the same captions.
        data_root: Where the dataset lies now; None is where it was.

    Raises:
        RefineError: A bad cache, or a configuration that no longer fits the options.
    """
    fusions = {c: to_options(config["fusion"], FusionOptions) for c, config in configs.items()}
    opened = {f: CachedImages(f, data_root=data_root) for f in dict.fromkeys(folders.values())}
    images = {caption: opened[folder] for caption, folder in folders.items()}
    for caption, cache in images.items():
        cache.reader.require_fusion(fusions[caption])
    first = next(iter(images.values()))

    def draw(image_id: int) -> dict[str, np.ndarray]:
        image, truth = first.read_image(image_id), first.read_truth(image_id)
        pictures = {"ground truth": first.draw(image, truth)}
        for caption, cache in images.items():
            fused = cache.fuse(cache.open_evidence(image_id), fusions[caption], truth)
            pictures[caption] = cache.draw(image, fused)
        return pictures

    return draw
