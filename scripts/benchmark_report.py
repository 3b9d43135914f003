"""Time and size of the HTML report of many made-up runs.

python scripts/benchmark_report.py                       # 200 runs on 500 toy scenes
python scripts/benchmark_report.py --images 5000 --categories 133
"""

import argparse
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from refine.categories import Category, CategoryTable
from refine.metrics.functional import PanopticStats, average_quality, to_metric_keys
from refine.metrics.quality_table import category_rows, to_csv
from refine.metrics.records import records_to_csv, sum_records, to_records
from refine.options import DataOptions, FusionOptions, ModelOptions, ToyOptions
from refine.report.ablation import choose_dataset
from refine.report.entries import read_entries
from refine.report.html.report import ReportOptions, build_report
from refine.runs.results import write_config, write_results
from refine.viz.image_files import write_png

SIGMAS = (0.1, 0.5, 1.0, 2.0, 2.5, 4.0, 10.0)


def make_config(number: int, *, num_images: int) -> dict[str, Any]:
    """Rows of table 3, then a sweep over sigma, five seeds each."""
    model, fusion, seed = ModelOptions(), FusionOptions(), number % 5
    kind = number // 5
    model.roi.cascade, model.ibpp.num_iterations = kind > 0, 3 * (kind > 0)
    if kind > 1:
        fusion.relations.kind, fusion.relations.head = "soft_occlusion", "strong"
        fusion.relations.sigma = SIGMAS[kind % len(SIGMAS)]
        fusion.unknown_erasing.mode = "score" if kind % 2 else "off"
    data = DataOptions(toy=ToyOptions(num_val=num_images))
    sections = {"model": asdict(model), "fusion": asdict(fusion), "data": asdict(data)}
    return {**sections, "seed": seed, "schedule": {"max_steps": 100 * (1 + kind // 14)}}


def write_run(folder: Path, args: argparse.Namespace, number: int) -> None:
    """A finished run with ten categories an image and a few large pictures."""
    table = CategoryTable(
        [
            Category(dataset_id=k + 1, name=f"category {k}", is_thing=k % 5 < 3, color=(0, 0, 0))
            for k in range(args.categories)
        ]
    )
    rng = np.random.default_rng(number)
    records = []
    for image_id in range(1, args.images + 1):
        present = rng.random(args.categories) < 10 / args.categories
        counts = rng.integers(0, 3, (3, args.categories)) * present
        stats = PanopticStats(counts[0] * rng.uniform(0.5, 1, args.categories), *counts)
        records.append(to_records(image_id, stats))
    joined = np.concatenate(records)
    total = sum_records(joined, args.categories)
    metrics = to_metric_keys(average_quality(total, table.num_things))
    config = make_config(number, num_images=args.images)
    write_config(folder, config)
    write_results(
        folder,
        {**metrics, "num_images": args.images},
        to_csv(category_rows(total, table)),
        per_image_csv=records_to_csv(joined, table),
        config=config,
    )
    for image_id in range(1, args.pictures + 1) if number % 5 == 0 else ():
        picture = rng.integers(0, 255, (60, 260, 3)).astype(np.uint8)
        large = picture.repeat(8, axis=0).repeat(8, axis=1)
        write_png(folder / "pictures" / f"{image_id:012d}.png", large)


def main() -> int:
    """Print seconds and megabytes."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--categories", type=int, default=11)
    parser.add_argument("--pictures", type=int, default=12, help="of every run of seed 0")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        for number in range(args.runs):
            write_run(Path(root, f"run{number:04d}"), args, number)
        start = time.perf_counter()
        entries, problems = read_entries([Path(root)])
        dataset = choose_dataset(entries)
        page = build_report(
            entries, problems, dataset, options=ReportOptions(), open_pictures=lambda *_: None
        )
        seconds = time.perf_counter() - start
    print(f"{len(entries)} runs of {args.images} images: {seconds:.1f} s, {len(page) / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
