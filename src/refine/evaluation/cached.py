"""Evaluates any number of fusion settings in one pass over cached predictions.

What the settings share is derived once for each image (:class:`~refine.fusion.evidence.Evidence`):
reading and decoding, pasted masks, pair overlaps, the semantic map and the regions of Unknown
Erasing. Only counts leave a worker, so memory does not grow with the number of images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from torch.utils.data import Dataset

from refine.categories import CategoryTable
from refine.data.coco_panoptic import CocoPanopticDataset
from refine.data.worker_tasks import run_tasks
from refine.errors import RefineError
from refine.evaluation.result import EvaluationResult
from refine.fusion.consensus import ConsensusGap, consensus_gap
from refine.fusion.evidence import Evidence
from refine.fusion.fuse_evidence import fuse
from refine.fusion.unknown_erasing import ErasedCount, count_erased
from refine.metrics.functional import match_segments
from refine.metrics.records import sort_records, sum_records, to_records
from refine.options import FusionOptions, UnknownErasingOptions
from refine.prediction_cache.cache import PredictionReader
from refine.types import GroundTruth


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to fuse."""

    fusion: FusionOptions
    stuff_area_limit_px: int


_Counts = tuple[np.ndarray, ConsensusGap, ErasedCount]
"""Records, consensus gap and erased segments of one image under one setting."""


def evaluate_cached(
    reader: PredictionReader,
    dataset: CocoPanopticDataset,
    settings: Sequence[Setting],
    *,
    num_workers: int,
) -> list[EvaluationResult]:
    """Evaluate every setting, reading each image once; one result for each.

    Besides PQ its metrics hold ``consensus_gap``, ``band_void``, ``erased_segments`` (stuff
    segments that erasing takes more than half of) and ``erased_wrong`` (how many of these were
    wrong); no AP and no speed of the network.

    Raises:
        RefineError: The predictions are damaged or do not fit a setting; the image is named.
    """
    images = _CachedImages(reader, dataset, settings)
    columns: list[list[_Counts]] = [[] for _ in settings]
    for counts in run_tasks(images, num_workers=num_workers):
        for column, count in zip(columns, counts, strict=True):
            column.append(count)
    return [
        _summarize(column, dataset.categories, panoptic_only=setting.fusion.panoptic_only)
        for column, setting in zip(columns, settings, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class _CachedImages(Dataset[list[_Counts]]):
    """Counts of every setting, image by image."""

    reader: PredictionReader
    dataset: CocoPanopticDataset
    settings: Sequence[Setting]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> list[_Counts]:
        image_id, name, truth = self.dataset.read_truth(index)
        try:
            categories = self.dataset.categories
            evidence = Evidence(self.reader.read(image_id), num_things=categories.num_things)
            return [
                _count(evidence, truth, setting, image_id=image_id, num_categories=len(categories))
                for setting in self.settings
            ]
        except RefineError as error:
            raise RefineError(f"{name}: {error}") from None


def _count(
    evidence: Evidence, truth: GroundTruth, setting: Setting, *, image_id: int, num_categories: int
) -> _Counts:
    """What a setting makes of one image; what settings share is derived once."""
    options, limit = setting.fusion, setting.stuff_area_limit_px
    merge = partial(fuse, evidence, stuff_area_limit_px=limit, truth=truth)
    prediction, erased = merge(options), ErasedCount(0, 0)
    if options.unknown_erasing.mode != "off":
        plain = replace(options, unknown_erasing=UnknownErasingOptions())
        before = evidence.once(("fused", repr(plain), limit), lambda: merge(plain))
        erased = count_erased(before, prediction, truth)
    stats = match_segments(prediction, truth, num_categories=num_categories)
    key = ("gap", options.merge.score_thresh, options.merge.mask_thresh)
    gap = evidence.once(key, lambda: consensus_gap(evidence, options.merge))
    return to_records(image_id, stats), gap, erased


def _summarize(
    counts: Sequence[_Counts], categories: CategoryTable, *, panoptic_only: bool
) -> EvaluationResult:
    parts, gaps, erasings = zip(*counts, strict=True)
    records = sort_records(np.concatenate(parts))
    erased, wrong = np.sum(erasings, axis=0).tolist()
    return EvaluationResult.of(
        (sum_records(records, len(categories)), records),
        sum(gaps, start=ConsensusGap()),
        categories,
        precision={},
        others={
            "erased_segments": erased,
            "erased_wrong": wrong,
            "num_images": len(counts),
            "panoptic_only": panoptic_only,
        },
    )
