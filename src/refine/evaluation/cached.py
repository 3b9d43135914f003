"""Any number of fusion settings in one pass over cached predictions.

What an image's settings share is derived once (:class:`~refine.fusion.evidence.Evidence`): reading
and decoding, pasted masks, pair overlaps, the semantic map and the regions of Unknown Erasing. Only
counts leave a worker, so memory does not grow with the number of images.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
from torch.utils.data import DataLoader, Dataset

from refine.categories import CategoryTable
from refine.data.coco_panoptic import CocoPanopticDataset
from refine.errors import RefineError
from refine.evaluation.evaluator import EvaluationResult
from refine.fusion.consensus import ConsensusGap, consensus_gap
from refine.fusion.evidence import Evidence
from refine.fusion.fuse import fuse
from refine.fusion.unknown_erasing import ErasedCount, count_erased
from refine.metrics.functional import average_quality, match_segments, to_metric_keys
from refine.metrics.quality_table import category_rows
from refine.metrics.records import sort_records, sum_records, to_records
from refine.options import FusionOptions, UnknownErasingOptions
from refine.prediction_cache.reader import PredictionReader
from refine.types import GroundTruth, PanopticPrediction

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to fuse.

    Attributes:
        fusion: All knobs of the fusion.
        stuff_area_limit_px: Stuff with fewer original pixels becomes void.
    """

    fusion: FusionOptions
    stuff_area_limit_px: int


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """What one setting makes of one image."""

    records: np.ndarray
    gap: ConsensusGap
    erased: ErasedCount


def evaluate_cached(
    reader: PredictionReader,
    dataset: CocoPanopticDataset,
    settings: Sequence[Setting],
    *,
    num_workers: int,
) -> list[EvaluationResult]:
    """Evaluate every setting, reading each image once.

    Args:
        reader: The predictions.
        dataset: The evaluation split that they are of.
        settings: At least one.
        num_workers: Processes; 0 works in this one.

    Returns:
        One result a setting. Besides PQ its metrics hold ``consensus_gap``, ``band_void``,
        ``erased_segments`` (stuff segments that erasing takes more than half of) and
        ``erased_wrong`` (how many of these were wrong); no AP and no speed of the network.

    Raises:
        RefineError: The predictions are damaged or do not fit a setting; the image is named.
    """
    images = _CachedImages(reader, dataset, settings)
    loader: DataLoader[Any] = DataLoader(
        images, batch_size=None, num_workers=num_workers, collate_fn=_as_it_is
    )
    columns: list[list[_Counts]] = [[] for _ in settings]
    for counts in loader:
        if isinstance(counts, RefineError):  # worker processes would wrap it in a traceback
            raise counts
        for column, count in zip(columns, counts, strict=True):
            column.append(count)
    return [
        _summarize(column, dataset.categories, panoptic_only=setting.fusion.panoptic_only)
        for column, setting in zip(columns, settings, strict=True)
    ]


class _CachedImages(Dataset[Any]):
    """Counts of every setting, image by image."""

    def __init__(
        self, reader: PredictionReader, dataset: CocoPanopticDataset, settings: Sequence[Setting]
    ) -> None:
        self.reader = reader
        self.dataset = dataset
        self.settings = settings

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> list[_Counts] | RefineError:
        image_id, name, truth = self.dataset.read_truth(index)
        try:
            evidence = Evidence(
                self.reader.read(image_id), num_things=self.dataset.categories.num_things
            )
            image = _Image(evidence, truth, num_categories=len(self.dataset.categories))
            return [image.count(image_id, setting) for setting in self.settings]
        except RefineError as error:
            return RefineError(f"{name}: {error}")


class _Image:
    """One image under many settings."""

    def __init__(self, evidence: Evidence, truth: GroundTruth, *, num_categories: int) -> None:
        self.evidence = evidence
        self.truth = truth
        self.num_categories = num_categories
        self._known: dict[Hashable, object] = {}

    def count(self, image_id: int, setting: Setting) -> _Counts:
        prediction = self._fuse(setting)
        stats = match_segments(
            prediction.segment_map,
            prediction.segments,
            true_map=self.truth.segment_map,
            true_segments=self.truth.segments,
            num_categories=self.num_categories,
        )
        return _Counts(
            to_records(image_id, stats),
            self._gap(setting.fusion),
            self._erased(prediction, setting),
        )

    def _fuse(self, setting: Setting) -> PanopticPrediction:
        return fuse(
            self.evidence,
            setting.fusion,
            stuff_area_limit_px=setting.stuff_area_limit_px,
            truth=self.truth,
        )

    def _gap(self, fusion: FusionOptions) -> ConsensusGap:
        merge = fusion.merge
        return self._once(
            ("gap", merge.score_thresh, merge.mask_thresh),
            lambda: consensus_gap(self.evidence, merge),
        )

    def _erased(self, prediction: PanopticPrediction, setting: Setting) -> ErasedCount:
        if setting.fusion.unknown_erasing.mode == "off":
            return ErasedCount(0, 0)
        plain = replace(
            setting, fusion=replace(setting.fusion, unknown_erasing=UnknownErasingOptions())
        )
        before = self._once(("fused", repr(plain)), lambda: self._fuse(plain))
        return count_erased(before, prediction, self.truth)

    def _once(self, key: Hashable, compute: Callable[[], _T]) -> _T:
        if key not in self._known:
            self._known[key] = compute()
        return cast(_T, self._known[key])


def _summarize(
    counts: Sequence[_Counts], categories: CategoryTable, *, panoptic_only: bool
) -> EvaluationResult:
    records = sort_records(np.concatenate([c.records for c in counts]))
    stats = sum_records(records, len(categories))
    groups = average_quality(stats, categories.num_things)
    gap = sum((c.gap for c in counts), start=ConsensusGap())
    erased, wrong = np.sum([c.erased for c in counts], axis=0).tolist()
    metrics: dict[str, float | int] = dict(to_metric_keys(groups))
    metrics |= {"consensus_gap": gap.gap, "band_void": gap.band_void}
    metrics |= {"erased_segments": erased, "erased_wrong": wrong}
    metrics |= {"num_images": len(counts), "panoptic_only": panoptic_only}
    return EvaluationResult(metrics, groups, category_rows(stats, categories), records)


def _as_it_is(item: Any) -> Any:
    return item
