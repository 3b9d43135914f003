"""Folders of made-up runs with real configurations, for tables and reports."""

import json
from dataclasses import asdict

import numpy as np

from made_up_runs import make_categories, make_images, write_run
from refine.atomic import write_text
from refine.metrics.functional import PanopticStats
from refine.options import (
    DataOptions,
    FusionOptions,
    IBPPOptions,
    ModelOptions,
    RelationsOptions,
    RoIOptions,
    SemanticOptions,
    ToyOptions,
    UnknownErasingOptions,
)
from refine.options.model import BackboneOptions
from refine.runs.results import write_config

CATEGORIES = make_categories(3, 2)
NUM_IMAGES = 8


def make_config(
    *,
    iterations=3,
    cascade=True,
    seed=0,
    backbone="r18",
    dcn=(),
    relations=None,
    erasing=None,
    ibpp=None,
    toy=True,
    num_val=NUM_IMAGES,
    **more,
):
    """What ``refine.train`` records; ``more`` are further sections."""
    model = ModelOptions(
        backbone=BackboneOptions(name=backbone, dcn_stages=list(dcn)),
        roi=RoIOptions(cascade=cascade),
        semantic=SemanticOptions(channels=256),
        ibpp=IBPPOptions(num_iterations=iterations, **(ibpp or {})),
    )
    fusion = FusionOptions(
        relations=RelationsOptions(**(relations or {})),
        unknown_erasing=UnknownErasingOptions(**(erasing or {})),
    )
    data = DataOptions(toy=ToyOptions(num_val=num_val) if toy else None)
    sections = {"model": asdict(model), "fusion": asdict(fusion), "data": asdict(data)}
    return {**sections, "seed": seed, "schedule": {"max_steps": 300}, **more}


def make_evaluation(predictions, **changes):
    """What ``refine.evaluate predictions=FOLDER`` records."""
    config = make_config(**changes)
    del config["schedule"]
    return {**config, "predictions": str(predictions), "ckpt_path": None, "from_baseline": False}


def write_entry(folder, config, *, quality=0.8, seed=1, metrics=None, num_images=NUM_IMAGES):
    """A finished run; its IoU is scaled by ``quality``."""
    images = make_images(num_images, len(CATEGORIES), seed=seed)
    scaled = {k: PanopticStats(quality * s.iou, s.tp, s.fp, s.fn) for k, s in images.items()}
    write_run(folder, scaled, CATEGORIES, {"seed": config["seed"], **(metrics or {})})
    write_config(folder, config)
    return folder


def write_unfinished(folder, config, *, error=None):
    """A run without DONE; with an error it is one of a study whose process has ended."""
    write_config(folder, config)
    if error is not None:
        write_text(folder / "train.log", f"epoch 0\n{error}\n")
        write_text(folder / "attempts.json", json.dumps([12.5]))
    return folder


SOE = {"kind": "soft_occlusion", "head": "strong"}
COMPONENTS = {
    "plain": {"iterations": 0, "cascade": False},
    "ibpp3": {},
    "soe": {"relations": SOE},
    "soe_ue": {"relations": SOE, "erasing": {"mode": "score"}},
}


def write_components(root, *, seeds=(0, 1, 2)):
    """Table 3, every row a little better than the one before."""
    for place, (name, changes) in enumerate(COMPONENTS.items()):
        for seed in seeds:
            quality = 0.6 + 0.08 * place + 0.01 * seed
            config = make_config(seed=seed, **changes)
            write_entry(
                root / name / f"seed{seed}",
                config,
                quality=quality,
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
        config = make_config(iterations=iterations)
        gap = {"consensus_gap": 0.04 - 0.01 * iterations}
        write_entry(root / f"T={iterations}", config, quality=0.6 + 0.05 * iterations, metrics=gap)
    return root


def draw_pictures(folder, *, image_ids, shade):
    """``pictures/`` of a run."""
    from refine.viz.image_files import write_png

    for image_id in image_ids:
        picture = np.full((60, 240, 3), shade, np.uint8)
        picture[:, ::40] = image_id % 256
        write_png(folder / "pictures" / f"{image_id:012d}.png", picture)
