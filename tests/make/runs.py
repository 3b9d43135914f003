"""Folders of made-up runs with real configurations."""

import json
from dataclasses import asdict

import numpy as np

from refine.atomic import write_text
from refine.categories import Category, CategoryTable
from refine.metrics.functional import PanopticStats, average_quality, to_metric_keys
from refine.metrics.quality_table import category_rows, to_csv
from refine.metrics.records import records_to_csv, sum_records, to_records
from refine.options import DataOptions, FusionOptions, ModelOptions, ToyOptions
from refine.report.finished_run import read_run
from refine.runs.run_folder import RunFolder
from refine.viz.image_files import write_png

NUM_IMAGES = 8
SOE = {"kind": "soft_occlusion", "head": "strong"}
COMPONENTS = {
    "plain": {"iterations": 0, "cascade": False},
    "ibpp3": {},
    "soe": {"relations": SOE},
    "soe_ue": {"relations": SOE, "erasing": {"mode": "score"}},
}


def make_categories(num_things, num_stuff):
    return CategoryTable(
        [
            Category(dataset_id=3 * k + 1, name=f"c{k}", is_thing=k < num_things, color=(0, 0, 0))
            for k in range(num_things + num_stuff)
        ]
    )


CATEGORIES = make_categories(3, 2)


def make_images(num_images, num_categories, *, seed, share=0.4):
    """Counts of images; a category is in an image with probability ``share``."""
    rng = np.random.default_rng(seed)
    images = {}
    for image_id in range(100, 100 + num_images):
        tp, fp, fn = rng.integers(0, 3, (3, num_categories)) * (rng.random(num_categories) < share)
        iou = tp * rng.uniform(0.5, 1.0, num_categories)
        images[image_id] = PanopticStats(iou, tp, fp, fn)
    return images


def write_run(folder, images, categories=CATEGORIES, metrics=None):
    """What an evaluation leaves."""
    records = np.concatenate([to_records(image_id, stats) for image_id, stats in images.items()])
    total = sum_records(records, len(categories))
    values = to_metric_keys(average_quality(total, categories.num_things))
    write_text(folder / "per_category.csv", to_csv(category_rows(total, categories)))
    write_text(folder / "per_image.csv", records_to_csv(records, categories))
    values |= {"num_images": len(images)} | (metrics or {})
    write_text(folder / "metrics.json", json.dumps(values))
    write_text(folder / "DONE", "hash\n")
    return folder


def make_run(folder, images, categories=CATEGORIES):
    """The same, read back."""
    return read_run(write_run(folder, images, categories))


def make_config(
    iterations=3, *, cascade=True, seed=0, backbone="r18", dcn=(), ibpp=None,
    relations=None, erasing=None, toy=True, num_val=NUM_IMAGES, **more,
):  # fmt: skip
    """What ``refine.train`` records; ``more`` are further sections."""
    model, fusion = asdict(ModelOptions()), asdict(FusionOptions())
    model["backbone"] |= {"name": backbone, "dcn_stages": list(dcn)}
    model["roi"]["cascade"], model["semantic"]["channels"] = cascade, 256
    model["ibpp"] |= {"num_iterations": iterations, **(ibpp or {})}
    fusion["relations"] |= relations or {}
    fusion["unknown_erasing"] |= erasing or {}
    data = asdict(DataOptions(toy=ToyOptions(num_val=num_val) if toy else None))
    sections = {"model": model, "fusion": fusion, "data": data}
    return {**sections, "seed": seed, "schedule": {"max_steps": 300}, **more}


def make_evaluation(predictions, **changes):
    """What ``refine.evaluate predictions=FOLDER`` records."""
    config = make_config(**changes)
    del config["schedule"]
    return {**config, "predictions": str(predictions), "ckpt_path": None, "from_baseline": False}


def write_entry(
    folder, config, *, quality=0.8, seed=1, metrics=None, num_images=NUM_IMAGES, image_ids=()
):
    """A finished run; its IoU is scaled by ``quality``."""
    images = make_images(len(image_ids) or num_images, len(CATEGORIES), seed=seed)
    images = dict(zip(image_ids or images, images.values(), strict=True))
    scaled = {k: PanopticStats(quality * s.iou, s.tp, s.fp, s.fn) for k, s in images.items()}
    write_unfinished(folder, config)
    return write_run(folder, scaled, metrics={"seed": config["seed"], **(metrics or {})})


def write_unfinished(folder, config):
    """A run without DONE."""
    RunFolder(folder).write_config(config)
    return folder


def write_components(root, *, seeds=(0, 1, 2)):
    """Table 3, every row a little better than the one before."""
    for place, (name, changes) in enumerate(COMPONENTS.items()):
        for seed in seeds:
            write_entry(
                root / name / f"seed{seed}",
                make_config(seed=seed, **changes),
                quality=0.6 + 0.08 * place + 0.01 * seed,
                metrics={"consensus_gap": 0.05 - 0.01 * place},
            )
    return root


def write_sweeps(root):
    """Sweeps over sigma, over the threshold of Unknown Erasing, and over T."""
    for k, sigma in enumerate((0.1, 1.0, 2.0, 2.5, 4.0, 10.0)):
        config = make_config(relations={**SOE, "sigma": sigma})
        write_entry(root / f"sigma={sigma}", config, quality=0.7 + 0.02 * k * (5 - k) / 6)
    for k, thresh in enumerate((0.3, 0.4, 0.5, 0.6)):
        config = make_config(erasing={"mode": "score", "score_thresh": thresh})
        write_entry(root / f"thresh={thresh}", config, quality=0.7 + 0.01 * k)
    for iterations in (0, 1, 2):
        config, gap = make_config(iterations=iterations), 0.04 - 0.01 * iterations
        metrics, quality = {"consensus_gap": gap}, 0.6 + 0.05 * iterations
        write_entry(root / f"T={iterations}", config, quality=quality, metrics=metrics)
    return root


def draw_pictures(folder, *, image_ids, shade):
    """``pictures/`` of a run."""
    for image_id in image_ids:
        picture = np.full((60, 240, 3), shade, np.uint8)
        picture[:, ::40] = image_id % 256
        write_png(folder / "pictures" / f"{image_id:012d}.png", picture)
