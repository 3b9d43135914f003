"""What the branches of a checkpoint know, and what each makes of a perfect partner: JSON lines.

    python scripts/probe_ibpp.py RUN/checkpoints/best.ckpt ... [--images N] [--steps K]

For iterations 0 to T: PQ, consensus gap, cross-entropy of the semantic map on pixels of things and
of stuff, IoU of the masks in true boxes that are shifted in the same way for every network. Then
the same with the true canvas in place of the masks, and with the true semantic map in place of
P_sem: what heads that were trained on predictions make of the truth. With ``--steps`` the heads of
IBPP are then trained K steps further, on the truth and as before: what there is to be carried.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from refine.data.coco_panoptic import CocoPanopticDataset
from refine.data.collate import collate
from refine.data.datamodule import PanopticDataModule
from refine.errors import run_script
from refine.evaluation.branch_probe import probe_branches
from refine.types import Batch
from refine.workflows.evaluate_checkpoint import open_checkpoint


def load_batches(val: CocoPanopticDataset, count: int | None) -> list[Batch]:
    """The first images of the evaluation split, with ground truth and training targets."""
    targets = CocoPanopticDataset(
        val.files, val.options, training=True, augment=False, image_ids=val.image_ids
    )
    return [collate([replace(val[k], target=targets[k].target)]) for k in range(len(val))[:count]]


def load_training(datamodule: PanopticDataModule, steps: int) -> Iterator[Batch]:
    """That many batches of the training split."""
    if steps:
        datamodule.setup("fit")
        loader = itertools.chain.from_iterable(itertools.repeat(datamodule.train_dataloader()))
        yield from itertools.islice(loader, steps)


def describe(args: argparse.Namespace) -> None:
    """Print a line for each checkpoint."""
    for path in args.checkpoints:
        pipeline, datamodule = open_checkpoint(path, data_root=args.data_root)
        pipeline.to(args.device)
        batches = [b.to(args.device) for b in load_batches(datamodule.val_dataset, args.images)]
        training = [b.to(args.device) for b in load_training(datamodule, args.steps)]
        figures = probe_branches(pipeline, batches, datamodule.categories, training=training)
        print(json.dumps({"checkpoint": str(path)} | figures), flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--images", type=int, help="the first N; default: all")
    parser.add_argument("--steps", type=int, default=0, help="of further training; default: 0")
    parser.add_argument("--data-root", type=Path, help="default: each checkpoint's own")
    parser.add_argument("--device", default="cpu")
    return run_script(lambda: describe(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
