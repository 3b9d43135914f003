"""What each iteration of IBPP is worth: panoptic quality and consensus after every one of them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from refine.categories import CategoryTable
from refine.evaluation.evaluator import Evaluation
from refine.fusion.evidence import Evidence
from refine.fusion.fuse_evidence import fuse
from refine.pipeline import Pipeline
from refine.types import Batch, IterationTrace, Sample


@torch.inference_mode()
def evaluate_iterations(
    pipeline: Pipeline, batches: Iterable[Batch], categories: CategoryTable
) -> list[Evaluation]:
    """Evaluate every iteration of IBPP, in one pass over the images.

    Iteration 0 has a semantic map but no masks; it is merged with those of iteration 1, so that
    from 0 to 1 only the semantic map changes. The pipeline is in eval mode, the images have ground
    truth.
    """
    count = pipeline.network.num_iterations + 1
    evaluations = [Evaluation(categories, pipeline.fusion) for _ in range(count)]
    for batch in batches:
        add_iterations(evaluations, pipeline, batch.samples, pipeline.network.trace(batch))
    return evaluations


def add_iterations(
    evaluations: Sequence[Evaluation],
    pipeline: Pipeline,
    samples: Sequence[Sample],
    traces: Sequence[Sequence[IterationTrace]],
) -> None:
    """Add the traces of some images to the evaluations of iterations 0 to T."""
    for sample, trace in zip(samples, traces, strict=True):
        with_masks = trace[min(1, len(trace) - 1)].raw
        for k, evaluation in enumerate(evaluations):
            raw = trace[k].raw
            if k == 0:
                raw = replace(with_masks, semantic_logits=raw.semantic_logits)
            evidence = Evidence(raw, num_things=pipeline.num_things)
            panoptic = fuse(
                evidence,
                pipeline.fusion,
                stuff_area_limit_px=pipeline.stuff_area_limit_px,
                truth=sample.truth,
            )
            evaluation.update([sample], [(evidence, panoptic)])
