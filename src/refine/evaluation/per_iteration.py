"""What each iteration of IBPP is worth: panoptic quality and consensus after every one of them."""

from collections.abc import Iterable
from dataclasses import replace

import torch

from refine.categories import CategoryTable
from refine.fusion.consensus import ConsensusGap, consensus_gaps
from refine.fusion.evidence import Evidence
from refine.fusion.fuse import fuse
from refine.metrics.panoptic_quality import PanopticQuality
from refine.pipeline import Pipeline
from refine.types import Batch, IterationTrace, RawPrediction, Sample


class IterationEvaluation:
    """Sums over images, iteration by iteration.

    Iteration 0 has a semantic map but no masks; it is merged with those of iteration 1, so that
    from 0 to 1 only the semantic map changes.

    Args:
        pipeline: In eval mode.
        categories: Of the dataset.
    """

    def __init__(self, pipeline: Pipeline, categories: CategoryTable) -> None:
        self.pipeline = pipeline
        count = pipeline.network.num_iterations + 1
        self.qualities = [PanopticQuality(categories) for _ in range(count)]
        self.gaps = [ConsensusGap()] * count

    @torch.inference_mode()
    def run(self, batches: Iterable[Batch]) -> list[dict[str, float]]:
        """Add all batches.

        Args:
            batches: With ground truth.

        Returns:
            For iterations 0 to T, the keys of :class:`PanopticQuality`, ``consensus_gap`` and
            ``band_void``.
        """
        for batch in batches:
            for sample, traces in zip(
                batch.samples, self.pipeline.network.trace(batch), strict=True
            ):
                self._add(sample, traces)
        return [
            {key: float(value) for key, value in quality.compute().items()}
            | {"consensus_gap": gap.gap, "band_void": gap.band_void}
            for quality, gap in zip(self.qualities, self.gaps, strict=True)
        ]

    def _add(self, sample: Sample, traces: list[IterationTrace]) -> None:
        assert sample.truth is not None
        pipeline = self.pipeline
        gaps = consensus_gaps(traces, num_things=pipeline.num_things, options=pipeline.fusion.merge)
        self.gaps = [a + b for a, b in zip(self.gaps, gaps, strict=True)]
        for trace, quality in zip(traces, self.qualities, strict=True):
            evidence = Evidence(_with_masks(trace, traces), num_things=pipeline.num_things)
            fused = fuse(
                evidence,
                pipeline.fusion,
                stuff_area_limit_px=pipeline.stuff_area_limit_px,
                truth=sample.truth,
            )
            quality.update([fused], [sample.truth], image_ids=[sample.image_id], is_padding=[False])


def _with_masks(trace: IterationTrace, traces: list[IterationTrace]) -> RawPrediction:
    if trace.iteration or len(traces) == 1:
        return trace.raw
    return replace(traces[1].raw, semantic_logits=trace.raw.semantic_logits)
