"""What IBPP could gain: PQ of a checkpoint with ground truth in the place of what the tasks tell.

    python scripts/evaluate_upper_bound.py RUN/checkpoints/best.ckpt [--images N] [--data-root DIR]

The semantic heads read the true visible instances instead of the canvas, the mask heads the true
semantic map instead of P_sem, or both. Nothing is trained anew: it shows what the trained heads
make of a perfect partner.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from refine.detector.ibpp import IBPP
from refine.errors import RefineError, run_script
from refine.evaluation.evaluator import Evaluation
from refine.types import STRIDE, Batch
from refine.workflows.evaluate_checkpoint import open_checkpoint

ROWS = {"predicted": (False, False), "true canvas": (True, False)}
ROWS |= {"true semantics": (False, True), "both true": (True, True)}
_CONFIDENT = 8.0
"""Logit of the true category; all others are 0."""


def true_categories(batch: Batch, num_categories: int) -> Tensor:
    """``[B, C, h, w]`` one-hot at stride 4 of the padded images; void is all zero."""
    height, width = batch.images.shape[-2:]
    maps = torch.zeros(len(batch.samples), num_categories, height // STRIDE, width // STRIDE)
    for planes, sample, size in zip(maps, batch.samples, batch.image_sizes, strict=True):
        assert sample.truth is not None
        table = torch.full((len(sample.truth.segments) + 1,), num_categories)
        for segment in sample.truth.segments:
            table[segment.id] = segment.category
        labels = table[torch.from_numpy(sample.truth.segment_map).long()]
        shares = F.one_hot(labels, num_categories + 1)[..., :-1].permute(2, 0, 1)[None].float()
        cells = (size[0] // STRIDE, size[1] // STRIDE)
        planes[:, : cells[0], : cells[1]] = F.interpolate(shares, cells, mode="area")[0]
    return maps


def tell_truth(ibpp: IBPP, truth: Tensor, *, num_things: int, canvas: bool, maps: bool) -> None:
    """Let the heads of one forward pass read the truth."""
    if canvas:

        def project_masks(_: IBPP, *__: Any, **___: Any) -> tuple[Tensor, Tensor]:
            return truth[:, :num_things], torch.arange(num_things)

        ibpp.project_masks = MethodType(project_masks, ibpp)  # type: ignore[method-assign]
    if maps:

        def pool_semantics(self: IBPP, _: Tensor, boxes: Sequence[Tensor], side: int) -> Tensor:
            return IBPP.pool_semantics(self, _CONFIDENT * truth, boxes, side)

        ibpp.pool_semantics = MethodType(pool_semantics, ibpp)  # type: ignore[method-assign]


def evaluate(args: argparse.Namespace) -> dict[str, dict[str, float | int]]:
    """Metrics of every row."""
    results = {}
    for name, (canvas, maps) in ROWS.items():
        pipeline, datamodule = open_checkpoint(args.checkpoint, data_root=args.data_root)
        if not pipeline.network.num_iterations:
            raise RefineError(f"{args.checkpoint}: a network without iterations; nothing crosses")
        categories = datamodule.categories
        evaluation = Evaluation(categories, pipeline.fusion)
        for batch in itertools.islice(datamodule.val_dataloader(), args.images):
            truth, things = true_categories(batch, len(categories)), categories.num_things
            ibpp = pipeline.network.ibpp
            tell_truth(ibpp, truth, num_things=things, canvas=canvas, maps=maps)
            evaluation.update(batch.samples, pipeline.predict(batch), 1.0)
        results[name] = evaluation.compute().metrics
    return results


def describe(args: argparse.Namespace) -> None:
    """Print the metrics of every row."""
    print("| the heads read | PQ | PQ things | PQ stuff |\n|---|---:|---:|---:|")
    for name, row in evaluate(args).items():
        cells = " | ".join(f"{100 * row[k]:.2f}" for k in ("pq", "pq_things", "pq_stuff"))
        print(f"| {name} | {cells} |")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--images", type=int, help="the first N; default: all")
    parser.add_argument("--data-root", type=Path, help="default: the checkpoint's")
    return run_script(lambda: describe(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
