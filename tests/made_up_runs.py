"""Folders of finished runs with made-up counts."""

import json

import numpy as np

from refine.atomic import write_text
from refine.categories import Category, CategoryTable
from refine.metrics.functional import PanopticStats, average_quality, to_metric_keys
from refine.metrics.quality_table import category_rows, to_csv
from refine.metrics.records import records_to_csv, sum_records, to_records
from refine.runs.results import write_config


def make_categories(num_things, num_stuff):
    number = num_things + num_stuff
    return CategoryTable(
        [
            Category(dataset_id=3 * k + 1, name=f"c{k}", is_thing=k < num_things, color=(0, 0, 0))
            for k in range(number)
        ]
    )


def make_images(num_images, num_categories, *, seed, share=0.4):
    """Counts of images; a category is in an image with probability ``share``."""
    rng = np.random.default_rng(seed)
    images = {}
    for image_id in range(100, 100 + num_images):
        tp, fp, fn = rng.integers(0, 3, (3, num_categories)) * (rng.random(num_categories) < share)
        iou = tp * rng.uniform(0.5, 1.0, num_categories)
        images[image_id] = PanopticStats(iou, tp, fp, fn)
    return images


def write_run(folder, images, categories, metrics=None):
    """Write what an evaluation leaves."""
    records = np.concatenate([to_records(image_id, stats) for image_id, stats in images.items()])
    total = sum_records(records, len(categories))
    values = to_metric_keys(average_quality(total, categories.num_things))
    write_text(folder / "per_category.csv", to_csv(category_rows(total, categories)))
    write_text(folder / "per_image.csv", records_to_csv(records, categories))
    write_config(folder, {"seed": 0})
    return finish_run(folder, values | {"num_images": len(images)} | (metrics or {}))


def finish_run(folder, metrics):
    """Write what says that a run has finished, and how well."""
    write_text(folder / "metrics.json", json.dumps(metrics))
    write_text(folder / "DONE", "hash\n")
    return folder
