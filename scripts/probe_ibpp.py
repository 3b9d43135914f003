"""What the branches of a checkpoint know, and what each makes of a perfect partner: JSON lines.

    python scripts/probe_ibpp.py RUN/checkpoints/best.ckpt ... [--images N] [--device cuda]

For iterations 0 to T: PQ, consensus gap, cross-entropy of the semantic map on pixels of things and
of stuff, IoU of the masks in true boxes that are shifted in the same way for every network. Then
the same with the true canvas in place of the masks, and with the true semantic map in place of
P_sem. No network is trained anew: it shows what trained heads make of the truth.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from refine.data.coco_panoptic import CocoPanopticDataset
from refine.data.collate import collate
from refine.errors import run_script
from refine.evaluation.branch_probe import probe_branches
from refine.types import Batch
from refine.workflows.evaluate_checkpoint import open_checkpoint


def load_batches(val: CocoPanopticDataset, count: int | None) -> Iterator[Batch]:
    """The first images of the evaluation split, with ground truth and training targets."""
    targets = CocoPanopticDataset(
        val.files, val.options, training=True, augment=False, image_ids=val.image_ids
    )
    for k in range(len(val))[:count]:
        yield collate([replace(val[k], target=targets[k].target)])


def describe(args: argparse.Namespace) -> None:
    """Print a line for each checkpoint."""
    for path in args.checkpoints:
        pipeline, datamodule = open_checkpoint(path, data_root=args.data_root)
        pipeline.to(args.device)
        batches = (b.to(args.device) for b in load_batches(datamodule.val_dataset, args.images))
        figures = probe_branches(pipeline, batches, datamodule.categories)
        print(json.dumps({"checkpoint": str(path)} | figures), flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--images", type=int, help="the first N; default: all")
    parser.add_argument("--data-root", type=Path, help="default: each checkpoint's own")
    parser.add_argument("--device", default="cpu")
    return run_script(lambda: describe(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
