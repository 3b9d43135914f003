"""Evaluates a pipeline while it predicts: PQ, AP if asked for, speed."""

from collections.abc import Callable, Sequence
from dataclasses import astuple

import torch
from torch import Tensor, nn

from refine.categories import CategoryTable
from refine.evaluation.result import EvaluationResult
from refine.fusion.consensus import ConsensusGap, consensus_gap
from refine.fusion.evidence import Evidence, to_original_boxes
from refine.metrics.average_precision import AveragePrecision
from refine.metrics.panoptic_quality import PanopticQuality
from refine.options import FusionOptions, MergeOptions
from refine.types import PanopticPrediction, Sample


class Evaluation(nn.Module):
    """Sums over images; a module so that its metrics follow the device.

    There is no AP if the fusion spares the network its weak detections.
    """

    def __init__(self, categories: CategoryTable, fusion: FusionOptions) -> None:
        super().__init__()
        self.fusion = fusion
        self.quality = PanopticQuality(categories)
        self.average_precision: AveragePrecision | None = None
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self.quality.reset()
        if self.average_precision is not None:
            self.average_precision.reset()
        self._num_images = self._num_predicted = 0
        self._gap = ConsensusGap()
        self._seconds = 0.0
        self._has_instances = False

    def update(
        self,
        samples: Sequence[Sample],
        outputs: Sequence[tuple[Evidence, PanopticPrediction]],
        seconds: float = 0.0,
    ) -> None:
        """Add the images of a batch, with ground truth, and the time that the pipeline took."""
        is_padding = [s.is_padding for s in samples]
        self.quality.update(
            [panoptic for _, panoptic in outputs],
            [s.truth for s in samples if s.truth is not None],
            image_ids=[s.image_id for s in samples],
            is_padding=is_padding,
        )
        for sample, (evidence, _) in zip(samples, outputs, strict=True):
            if self.average_precision is not None and not self.fusion.panoptic_only:
                self._update_average_precision(self.average_precision, sample, evidence)
            if not sample.is_padding:
                self._gap += consensus_gap(evidence, self.fusion.merge)
        self._num_images += is_padding.count(False)
        self._num_predicted += len(outputs)
        self._seconds += seconds

    def compute(
        self, sum_over_processes: Callable[[Tensor], Tensor] = lambda tensor: tensor
    ) -> EvaluationResult:
        """The result; with several processes, call it on all of them, with a sum over them."""
        rate = self._num_predicted / max(self._seconds, 1e-9)
        device = self.quality.iou.device
        own = [self._num_images, rate, *astuple(self._gap)]
        sums = sum_over_processes(torch.tensor(own, dtype=torch.float64, device=device)).tolist()
        precision = {}
        if self.average_precision is not None and self._has_instances:
            precision = {k: float(v) for k, v in self.average_precision.compute().items()}
        return EvaluationResult.of(
            self.quality.totals(),
            ConsensusGap(*(int(count) for count in sums[2:])),
            self.quality.categories,
            precision=precision,
            others={
                "images_per_second": sums[1],
                "num_images": int(sums[0]),
                "panoptic_only": self.fusion.panoptic_only,
            },
        )

    def _update_average_precision(
        self, metric: AveragePrecision, sample: Sample, evidence: Evidence
    ) -> None:
        instances = sample.truth.instances if sample.truth else None
        if instances is None:
            return
        self._has_instances = True
        raw, pasted = evidence.raw, evidence.instances(MergeOptions(score_thresh=0.0))
        metric.update(
            to_original_boxes(raw),
            raw.scores,
            labels=raw.labels,
            masks=[instance.crop for instance in pasted],
            truth=instances,
            size=raw.original_size,
            is_padding=sample.is_padding,
        )
