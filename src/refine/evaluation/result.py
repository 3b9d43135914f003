"""What an evaluation finds out, of a pipeline or of cached predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from refine.categories import CategoryTable
from refine.fusion.consensus import ConsensusGap
from refine.metrics.functional import GroupQuality, PanopticStats, average_quality, to_metric_keys
from refine.metrics.quality_table import CategoryRow, category_rows


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """An evaluation over all images.

    Attributes:
        metrics: The keys of ``metrics.json``; fractions in [0, 1].
        groups: Averages over all, things and stuff.
        rows: One row for each category.
        records: What each image added (:mod:`refine.metrics.records`).
    """

    metrics: dict[str, float | int]
    groups: Mapping[str, GroupQuality]
    rows: Sequence[CategoryRow]
    records: np.ndarray

    @classmethod
    def of(
        cls,
        totals: tuple[PanopticStats, np.ndarray],
        gap: ConsensusGap,
        categories: CategoryTable,
        *,
        precision: Mapping[str, float],
        others: Mapping[str, float | int],
    ) -> "EvaluationResult":
        """The result of what was counted over all images.

        ``totals`` are the sums of panoptic quality and the records that they are made of,
        ``precision`` is ``ap_box`` and ``ap_mask``, if known; other metrics come last.
        """
        stats, records = totals
        groups = average_quality(stats, categories.num_things)
        gaps = {"consensus_gap": gap.gap, "band_void": gap.band_void}
        return cls(
            {**to_metric_keys(groups), **precision, **gaps, **others},
            groups,
            category_rows(stats, categories),
            records,
        )
