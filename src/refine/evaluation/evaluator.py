"""Counts what a pipeline gets right: PQ always, AP on demand, speed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from refine.categories import CategoryTable
from refine.fusion.consensus import ConsensusGap, consensus_gap
from refine.fusion.evidence import Evidence, to_original_boxes
from refine.metrics.average_precision import AveragePrecision
from refine.metrics.functional import GroupQuality
from refine.metrics.panoptic_quality import PanopticQuality
from refine.metrics.quality_table import CategoryRow
from refine.options import FusionOptions, MergeOptions
from refine.types import Batch, PanopticPrediction, Sample


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """An evaluation over all processes.

    Attributes:
        metrics: The keys of ``metrics.json``; fractions in [0, 1].
        groups: Averages over all, things and stuff.
        rows: One a category.
        records: What each image added (:mod:`refine.metrics.records`).
    """

    metrics: dict[str, float | int]
    groups: Mapping[str, GroupQuality]
    rows: Sequence[CategoryRow]
    records: np.ndarray


class Evaluation(nn.Module):
    """Sums over images; a module so that its metrics follow the device.

    Args:
        categories: Of the dataset.
        fusion: Of the pipeline. There is no AP if it keeps the network from its weak detections.
    """

    def __init__(self, categories: CategoryTable, fusion: FusionOptions) -> None:
        super().__init__()
        self.fusion = fusion
        self.quality = PanopticQuality(categories)
        self.average_precision: AveragePrecision | None = None
        self.reset()

    def reset(self) -> None:
        """Start anew."""
        self.quality.reset()
        if self.average_precision is not None:
            self.average_precision.reset()
        self._num_images = self._num_predicted = 0
        self._gap = ConsensusGap()
        self._seconds = 0.0
        self._has_instances = False

    def update(
        self,
        batch: Batch,
        outputs: Sequence[tuple[Evidence, PanopticPrediction]],
        seconds: float,
    ) -> None:
        """Add a batch.

        Args:
            batch: With ground truth.
            outputs: Of the pipeline.
            seconds: That the pipeline took.
        """
        truths = [s.truth for s in batch.samples if s.truth is not None]
        is_padding = [s.is_padding for s in batch.samples]
        self.quality.update(
            [panoptic for _, panoptic in outputs],
            truths,
            image_ids=[s.image_id for s in batch.samples],
            is_padding=is_padding,
        )
        for sample, (evidence, _) in zip(batch.samples, outputs, strict=True):
            if self.average_precision is not None and not self.fusion.panoptic_only:
                self._update_average_precision(self.average_precision, sample, evidence)
            if not sample.is_padding:
                self._gap += consensus_gap(evidence, self.fusion.merge)
        self._num_images += is_padding.count(False)
        self._num_predicted += len(outputs)
        self._seconds += seconds

    def compute(self, sum_over_processes: Callable[[Tensor], Tensor]) -> EvaluationResult:
        """The result; with several processes, call it on all of them.

        Args:
            sum_over_processes: Adds a tensor up over all processes.
        """
        rate = self._num_predicted / max(self._seconds, 1e-9)
        device = self.quality.iou.device
        own = [self._num_images, rate, *astuple(self._gap)]
        sums = sum_over_processes(torch.tensor(own, dtype=torch.float64, device=device)).tolist()
        num_images, images_per_second = sums[:2]
        gap = ConsensusGap(*(int(count) for count in sums[2:]))
        metrics: dict[str, float | int] = {k: float(v) for k, v in self.quality.compute().items()}
        if self.average_precision is not None and self._has_instances:
            metrics |= {k: float(v) for k, v in self.average_precision.compute().items()}
        metrics |= {"consensus_gap": gap.gap, "band_void": gap.band_void}
        metrics |= {"images_per_second": images_per_second, "num_images": int(num_images)}
        metrics |= {"panoptic_only": self.fusion.panoptic_only}
        return EvaluationResult(
            metrics,
            self.quality.groups(),
            self.quality.per_category(),
            self.quality.image_records(),
        )

    def _update_average_precision(
        self, metric: AveragePrecision, sample: Sample, evidence: Evidence
    ) -> None:
        instances = sample.truth.instances if sample.truth else None
        if instances is None:
            return
        self._has_instances = True
        raw = evidence.raw
        pasted = evidence.instances(replace(MergeOptions(), score_thresh=0.0))
        metric.update(
            to_original_boxes(raw),
            raw.scores,
            labels=raw.labels,
            masks=[instance.crop for instance in pasted],
            truth=instances,
            size=raw.original_size,
            is_padding=sample.is_padding,
        )
