"""Images of a prediction cache: drawn under any fusion, and which order of a pair is right."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from refine.config.instantiate import to_options
from refine.data.datamodule import PanopticDataModule
from refine.fusion.evidence import Evidence
from refine.fusion.fuse_evidence import fuse
from refine.fusion.relations import relate
from refine.metrics.functional import Panoptic, compute_category_quality, match_segments
from refine.options import DataOptions, FusionOptions, RelationsOptions
from refine.prediction_cache.cache import PredictionReader
from refine.prediction_cache.header import CacheHeader, identify_dataset
from refine.report.image_changes import ImageSource
from refine.types import GroundTruth, PanopticPrediction
from refine.viz.overlay import draw_panoptic, resize_panoptic
from refine.viz.panels import fit_size, original_image, resize_image

DECISIONS = [
    f"true {true}, said {said}" for true in ("higher", "lower") for said in ("higher", "lower")
]
"""Whether the instance of a pair with the higher or the lower score is, and is said to be, on top.
A rule without an opinion leaves the higher one there, as the merge does."""


class CachedImages:
    """A cache beside its dataset.

    Args:
        folder: The cache.
        data_root: Where the dataset lies now; None is where it was.

    Attributes:
        reader: Reads the predictions.
        categories: Categories of the dataset.
        image_ids: Image ids in the dataset's order.

    Raises:
        RefineError: A bad cache, or another dataset than the one it is of.
    """

    def __init__(self, folder: Path, *, data_root: Path | None = None) -> None:
        self.reader = PredictionReader(folder)
        self._options = to_options(self.reader.header.checkpoint["config"]["data"], DataOptions)
        if data_root is not None:
            self._options = self._options.moved_to(data_root)
        datamodule = PanopticDataModule(self._options, seed=0)
        datamodule.prepare_data()
        datamodule.setup("validate")
        self._dataset = datamodule.val_dataset
        self.categories, self.image_ids = self._dataset.categories, self._dataset.image_ids
        identity = identify_dataset(self._dataset.files.annotations, self.image_ids)
        self.reader.require_dataset(identity)

    def read_truth(self, image_id: int) -> GroundTruth:
        """The ground truth of an image."""
        return self._dataset.read_truth(self.image_ids.index(image_id))[2]

    def read_image(self, image_id: int) -> np.ndarray:
        """``[H, W, 3]`` uint8 RGB at original size."""
        return original_image(self._dataset[self.image_ids.index(image_id)])

    def open_evidence(self, image_id: int) -> Evidence:
        """The prediction of an image."""
        return Evidence(self.reader.read(image_id), num_things=self.categories.num_things)

    def fuse(
        self, evidence: Evidence, fusion: FusionOptions, truth: GroundTruth
    ) -> PanopticPrediction:
        """The panoptic map of an image at original size."""
        limit = self._options.stuff_area_limit_px
        return fuse(evidence, fusion, stuff_area_limit_px=limit, truth=truth)

    def score(self, prediction: PanopticPrediction, truth: GroundTruth) -> float:
        """Mean PQ of the categories in the image, as :mod:`refine.report.image_changes` has it."""
        stats = match_segments(prediction, truth, num_categories=len(self.categories))
        quality = compute_category_quality(stats)
        return float(quality.pq[quality.is_present].mean()) if quality.is_present.any() else 1.0

    def draw(self, image: np.ndarray, panoptic: Panoptic) -> np.ndarray:
        """Its overlay, small images enlarged so that the names can be read."""
        size = fit_size(*image.shape[:2])
        image, panoptic = resize_image(image, size), resize_panoptic(panoptic, size)
        return draw_panoptic(image, panoptic, self.categories)


def open_pictures(
    configs: Mapping[str, Mapping[str, Any]],
    folders: Mapping[str, Path],
    *,
    data_root: Path | None = None,
) -> ImageSource:
    """Pictures of ground truth and of the predictions of some runs, each with its own fusion.

    ``configs`` are the runs' configurations, ``folders`` their caches by the same captions, all on
    one dataset, as in :class:`CachedImages`.

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


def list_rules(header: CacheHeader) -> dict[str, RelationsOptions]:
    """Every order that a cache can give: the rules without training, and its heads."""
    rules = {kind: RelationsOptions(kind=kind) for kind in ("score", "area", "shr")}
    rules |= {name: RelationsOptions(kind="srm", head=name) for name in header.ranking_heads}
    for name in header.occlusion_heads:
        soft = RelationsOptions(kind="soft_occlusion", head=name)
        rules[name] = replace(soft, kind="occlusion")
        rules[f"{name}, sigma {soft.sigma:g}"] = soft
    return rules


def count_decisions(images: CachedImages, rules: Mapping[str, RelationsOptions]) -> pd.DataFrame:
    """What each order of overlapping instances decides, against the truth, pair by pair.

    Returns:
        A line per rule: :data:`DECISIONS` counted, ``right``, the share of them that are (NaN of
        none), and ``unordered``, the number of pairs that the truth does not order.

    Raises:
        RefineError: A rule needs a head that the cache does not hold.
    """
    fusions = [FusionOptions(relations=relations) for relations in rules.values()]
    for fusion in fusions:
        images.reader.require_fusion(fusion)
    counts = np.zeros((len(rules), 6), np.int64)
    for image_id in images.image_ids:
        evidence, truth = images.open_evidence(image_id), images.read_truth(image_id)
        counts += [_count(evidence, truth, fusion) for fusion in fusions]
    frame = pd.DataFrame(counts[:, :4], index=list(rules), columns=DECISIONS)
    right = frame.iloc[:, [0, 3]].sum(axis=1) / frame.sum(axis=1)
    return frame.assign(right=right, unordered=counts[:, 4:].sum(axis=1))


def _count(evidence: Evidence, truth: GroundTruth, fusion: FusionOptions) -> np.ndarray:
    """``[6]``: truly the higher, the lower, or unknown; each decided so or so."""
    instances = evidence.instances(fusion.merge)
    overlaps = evidence.overlaps(fusion.merge)
    decided, true = (
        relate(instances, overlaps, relations, raw=evidence.raw, truth=truth).on_top
        for relations in (fusion.relations, replace(fusion.relations, kind="oracle"))
    )
    return np.bincount(2 * np.select([true > 0, true < 0], [0, 1], 2) + (decided < 0), minlength=6)
