"""Find which instance lies on top of which in a COCO-panoptic dataset, and say what it is like.

    python scripts/build_occlusion_pairs.py data/coco --splits train2017 val2017 --jobs 8

The pairs go to ROOT/annotations/occlusion_pairs_SPLIT.json, where the training of occlusion heads
looks for them, unless they are there. The rule stands in refine/data/pairs/occlusion_pairs.py.
"""

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from refine.coco_format.layout import DatasetFiles, open_dataset
from refine.data.pairs.occlusion_pairs import OcclusionPairs
from refine.data.pairs.pair_building import require_instances
from refine.data.pairs.pair_cache import ensure_pairs, pairs_path
from refine.errors import RefineError
from refine.options import OcclusionPairsOptions


def _parse_args(argv: list[str] | None) -> argparse.Namespace:
    description, _, _ = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("root", type=Path, help="the dataset's folder")
    parser.add_argument("--splits", nargs="+", default=("train2017", "val2017"), metavar="SPLIT")
    thresh = OcclusionPairsOptions().overlap_thresh
    parser.add_argument("--overlap-thresh", type=float, default=thresh, help="of either outline")
    parser.add_argument("--folder", help="for the pairs; without, ROOT/annotations")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--rows", type=int, default=20, help="category pairs to list")
    parser.add_argument("--predictions", type=Path, help="cache of the split, for its scores")
    return parser.parse_args(argv)


def find_pairs(files: DatasetFiles, split: str, args: argparse.Namespace) -> OcclusionPairs:
    """The pairs of a split, with a progress bar while they are built."""
    options = OcclusionPairsOptions(overlap_thresh=args.overlap_thresh, folder=args.folder)
    path = pairs_path(args.root / "annotations", split, options)
    total = len(files.annotations)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        advance = partial(bar.advance, bar.add_task(split, total=total))
        jobs = max(args.jobs, 1)
        pairs = ensure_pairs(files, path, options, num_processes=jobs, progress=advance)
    print(f"{path}: {len(pairs)} pairs in {len(np.unique(pairs.image_ids))} of {total} images")
    return pairs


def describe_categories(files: DatasetFiles, pairs: OcclusionPairs, rows: int) -> Iterator[str]:
    """Lines of text: how often each category lies on each other, the most frequent first."""
    table = files.annotations.categories
    counts = pairs.count_categories(require_instances(files), table.num_things)
    names = [c.name for c in table.categories]
    both = np.triu(counts + counts.T)
    np.fill_diagonal(both, counts.diagonal())
    order = np.argsort(-both, axis=None, kind="stable")[: min(rows, np.count_nonzero(both))]
    yield f"  {'a':<16} {'b':<16} {'pairs':>7} {'a over b':>9} {'b over a':>9}"
    for a, b in zip(*np.unravel_index(order, both.shape), strict=True):
        orders = f"{counts[a, b]:9d} {counts[b, a]:9d}" if a != b else ""
        yield f"  {names[a]:<16} {names[b]:<16} {both[a, b]:7d} {orders}".rstrip()


def describe_rules(
    files: DatasetFiles, pairs: OcclusionPairs, predictions: Path | None
) -> Iterator[str]:
    """Lines of text: how often simple rules are right."""
    # imported late: torch would start with every process that looks for pairs
    from refine.data.pairs.pair_statistics import detection_scores, outline_areas
    from refine.prediction_cache.cache import PredictionReader
    from refine.prediction_cache.header import identify_dataset

    areas = outline_areas(files, pairs)
    yield _share("smaller over larger", areas[:, 0] < areas[:, 1])
    if predictions is None:
        yield "  higher score over lower  needs detections: --predictions CACHE"
        return
    reader = PredictionReader(predictions)
    reader.require_dataset(identify_dataset(files.annotations))
    scores = detection_scores(files, pairs, reader.read)
    scores = scores[~np.isnan(scores).any(axis=1)]
    yield _share("higher score over lower", scores[:, 0] > scores[:, 1]) + " with both detected"


def _share(name: str, is_right: np.ndarray) -> str:
    share = f"{is_right.mean():6.1%}" if len(is_right) else "     -"
    return f"  {name:<24} {share} of {len(is_right)} pairs"


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        for split in args.splits:
            files = open_dataset(args.root, split)
            pairs = find_pairs(files, split, args)
            print("\n".join(describe_categories(files, pairs, args.rows)))
            print("\n".join(describe_rules(files, pairs, args.predictions)))
    except (RefineError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
