"""``experiment=finetune``: sizes, batch, schedule and frozen stages that suit the data.

Nothing is chosen that the command line names, by its key or, of ``data`` and ``schedule``, by the
group (``data=custom_panoptic`` has no sizes of its own). A training that goes on in a folder keeps
what was chosen for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from refine.coco_format.layout import open_split
from refine.config.flatten import flatten
from refine.config.instantiate import to_options
from refine.config.settings import TrainSettings
from refine.data.coco_panoptic import CocoPanopticDataset
from refine.data.datamodule import PanopticDataModule
from refine.data.transforms import typical_size
from refine.detector.model_costs import cost_of
from refine.ops.machine import free_bytes
from refine.options import to_plain
from refine.runs.checkpoint import Checkpoint, read_checkpoint
from refine.runs.console import list_some, say
from refine.workflows.train_detector import choose_weights

LARGEST_SIDE, SMALLEST_SIDE, MAX_UPSCALE = 800, 128, 2
"""Limits of the short side in pixels, and of how much a checkpoint's size enlarges images."""

MAX_BATCH, MIN_BATCHES = 16, 8
"""Largest batch, and least number of batches that the images make."""

ROUNDS, MIN_STEPS, MAX_STEPS = 50, 300, 20_000
"""How often every image is seen, within these numbers of steps."""

FREEZE = ((50, 4), (500, 3), (5000, 2))
"""With fewer images than the first number, the stem and the stages up to the second are frozen."""

MEMORY_SHARE = 0.7
"""Share of the free memory that a batch may take."""

_CHOSEN = (
    "data.image.", "data.anchors.", "data.batch_size.", "data.stuff_area_limit_px.", "model.",
    "schedule.", "trainer.max_steps.", "trainer.val_check_interval.",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DataFacts:
    """What the choice looks at.

    Attributes:
        sizes: ``[N, 2]`` int64 height and width of the training images.
        thing_sides: ``[K]`` float64 square roots of the areas of their things, as shares of the
            short side of the image.
        num_things: Number of thing categories.
        num_categories: Number of all categories.
    """

    sizes: np.ndarray
    thing_sides: np.ndarray
    num_things: int
    num_categories: int

    @classmethod
    def of(cls, dataset: CocoPanopticDataset) -> "DataFacts":
        """The facts of a training split."""
        categories, sides = dataset.categories, dataset.thing_sides()
        return cls(
            sizes=dataset.sizes,
            thing_sides=sides,
            num_things=categories.num_things,
            num_categories=len(categories),
        )


def choose_from_data(settings: TrainSettings) -> TrainSettings:
    """The settings with what suits the data, if ``choose_from_data`` asks for it; says what.

    Raises:
        RefineError: Bad data, or a bad checkpoint in ``weights``.
    """
    if not settings.choose_from_data:
        return settings
    recorded = _read_record(Path(settings.run_dir))
    if recorded is not None:
        return change(settings, recorded)
    datamodule = PanopticDataModule(settings.data, seed=settings.seed)
    datamodule.prepare_data()
    data = settings.data
    files = open_split(data, data.train_split).choose(data.categories)
    dataset = CocoPanopticDataset(files, data.image, training=True, image_ids=data.train_image_ids)
    start = None
    if settings.weights.endswith(".ckpt"):
        start = read_checkpoint(Path(settings.weights))
    chosen, lines = choose(settings, DataFacts.of(dataset), start, free=_free_bytes(settings))
    for line in lines:
        say(line)
    return chosen


def choose(
    settings: TrainSettings, facts: DataFacts, start: Checkpoint | None, *, free: int | None
) -> tuple[TrainSettings, list[str]]:
    """The settings for some data, and lines that say why.

    Args:
        settings: Settings to change; what is in their ``given`` stays.
        facts: Training data.
        start: Checkpoint whose network is fine-tuned, or None.
        free: Free memory of a device in bytes, or None.
    """
    count, (height, width) = len(facts.sizes), np.median(facts.sizes, axis=0).astype(int).tolist()
    sizes = _choose_sizes(facts) if start is None else _sizes_of(start, facts)
    if start is not None and not any(g.startswith("model=") for g in settings.given):
        sizes |= {f"model.{k}": v for k, v in flatten(to_plain(start.sections.model)).items()}
    settings = change(settings, sizes)
    weights = choose_weights(settings)
    frozen = next((stages for limit, stages in FREEZE if count < limit), 0)
    settings = change(
        settings, {"model.backbone.frozen_stages": 0 if weights == "none" else frozen}
    )
    fitting = _count_fitting(settings, facts, free)
    wanted = min(MAX_BATCH, max(count // MIN_BATCHES, 1))
    most = min(wanted, max(fitting, 1))
    settings = change(settings, {"data.batch_size": 2 ** (most.bit_length() - 1)})
    settings = _choose_schedule(settings, count)
    side, sizes_px = settings.data.image.eval_short_side_px, settings.data.anchors.sizes_px
    batch, steps = settings.data.batch_size, settings.schedule.max_steps
    held = 100 * _coverage(sizes_px, facts.thing_sides * side)
    places = ("nothing", "its stem", *(f"its stem to layer{k}" for k in range(1, 5)))
    return settings, [
        f"chosen for {count} images of {height} x {width} (median): short side {side} px"
        f"{' as the checkpoint' if start else ''}, anchors {sizes_px[0]} to {sizes_px[-1]} px "
        f"({held:.0f} % of the things), batch {batch}"
        f"{' (no more fits the memory)' if fitting < wanted else ''}, {steps} steps: every image "
        f"{steps * batch / count:.0f} times",
        f"network: {'random' if weights == 'none' else weights}; frozen for {count} images: "
        f"{places[settings.model.backbone.frozen_stages]}; given, so not chosen: "
        f"{list_some(_list_given(settings)) or 'nothing'}",
    ]


def change(settings: TrainSettings, changes: Mapping[str, Any]) -> TrainSettings:
    """The settings with other values by dotted key, but for keys that the command line gives."""
    changes = {key: value for key, value in changes.items() if not _is_given(settings, key)}
    sections = {}
    for name in dict.fromkeys(key.partition(".")[0] for key in changes):
        section = getattr(settings, name)
        own = {
            k.removeprefix(f"{name}."): v for k, v in changes.items() if k.startswith(f"{name}.")
        }
        sections[name] = to_options(to_plain(section), type(section), changes=own)
    return replace(settings, **sections)


def _is_given(settings: TrainSettings, key: str) -> bool:
    return any(f"{key}.".startswith(f"{name}.") for name in _list_given(settings))


def _list_given(settings: TrainSettings) -> list[str]:
    """What the command line gives of what would be chosen: keys, sections and groups."""
    pairs = [given.partition("=")[::2] for given in settings.given]
    groups = [n for n, value in pairs if n in ("data", "schedule") and value != "custom_panoptic"]
    return groups + [n for n, _ in pairs if "." in n and f"{n}.".startswith(_CHOSEN)]


def _choose_sizes(facts: DataFacts) -> dict[str, Any]:
    """Short side, other sizes in proportion, and the anchors that hold most things."""
    short, long = np.sort(facts.sizes, axis=1).T
    side = int(np.clip(round(float(np.median(short)) / 32) * 32, SMALLEST_SIDE, LARGEST_SIDE))
    aspect = float(np.clip(np.quantile(long / short, 0.9), 5 / 3, 2.5))
    levels = [[base * 2**k for k in range(5)] for base in (8, 16, 32, 64)]
    usual = side / 25  # 32 at 800
    best = max(
        levels,
        key=lambda sizes: (
            round(_coverage(sizes, facts.thing_sides * side), 2),
            -abs(np.log2(sizes[0] / usual)),
        ),
    )
    return {
        "data.image.train_short_sides_px": [round(side * s / 32) * 32 for s in (0.8, 0.9, 1.0)],
        "data.image.eval_short_side_px": side,
        "data.image.max_long_side_px": round(side * aspect),
        "data.anchors.sizes_px": best,
        "data.stuff_area_limit_px": round((64 * float(np.median(short)) / 480) ** 2),
    }


def _coverage(anchors: list[int], sides: np.ndarray) -> float:
    """Share of things with sides in the range of the anchors, or up to 1.5 times beyond it."""
    inside = (sides >= anchors[0] / 1.5) & (sides <= anchors[-1] * 1.5)
    return float(inside.mean()) if len(sides) else 1.0


def _sizes_of(start: Checkpoint, facts: DataFacts) -> dict[str, Any]:
    """Sizes and anchors of a checkpoint's training; smaller where images would be enlarged much."""
    data, short = start.sections.data, float(np.median(facts.sizes.min(axis=1)))
    image = data.image
    scale = min(1.0, max(MAX_UPSCALE * short, SMALLEST_SIDE) / image.eval_short_side_px)
    limit = image.eval_max_long_side_px
    return {
        "data.image.train_short_sides_px": [round(s * scale) for s in image.train_short_sides_px],
        "data.image.eval_short_side_px": round(image.eval_short_side_px * scale),
        "data.image.max_long_side_px": round(image.max_long_side_px * scale),
        "data.image.eval_max_long_side_px": None if limit is None else round(limit * scale),
        "data.anchors.sizes_px": data.anchors.sizes_px,
        "data.anchors.aspect_ratios": data.anchors.aspect_ratios,
        "data.stuff_area_limit_px": round((64 * short / 480) ** 2),
    }


def _choose_schedule(settings: TrainSettings, count: int) -> TrainSettings:
    batch = settings.data.batch_size * settings.trainer.accumulate_grad_batches
    steps = int(np.clip(ceil(ROUNDS * count / batch), MIN_STEPS, MAX_STEPS))
    if _is_given(settings, "trainer.max_steps"):
        steps = settings.trainer.max_steps
    settings = change(settings, {"schedule.max_steps": steps})
    steps = settings.schedule.max_steps
    return change(
        settings,
        {
            "schedule.warmup_steps": min(500, ceil(steps / 10)),
            "trainer.max_steps": steps,
            "trainer.val_check_interval": ceil(steps / 5)
            * settings.trainer.accumulate_grad_batches,
        },
    )


def _count_fitting(settings: TrainSettings, facts: DataFacts, free: int | None) -> int:
    """Number of images for which the memory of all devices is enough; a large one if unknown."""
    if free is None:
        return MAX_BATCH
    costs = cost_of(
        settings.model,
        typical_size(facts.sizes, settings.data.image),
        anchors=settings.data.anchors,
        num_things=facts.num_things,
        num_categories=facts.num_categories,
    )
    is_half = "16" in str(settings.trainer.precision)
    one, two = (costs.training_bytes(n, is_half=is_half) for n in (1, 2))
    devices = settings.trainer.devices
    count = devices if isinstance(devices, int) and devices > 0 else torch.cuda.device_count()
    return max(count, 1) * max(int((MEMORY_SHARE * free - (2 * one - two)) / (two - one)), 0)


def _free_bytes(settings: TrainSettings) -> int | None:
    trainer = settings.trainer
    if trainer.accelerator == "cpu" or not torch.cuda.is_available():
        return free_bytes(torch.device("cpu"))
    if trainer.devices != 1 or trainer.num_nodes != 1:
        # the processes choose at once and each for itself, but the same
        return int(torch.cuda.get_device_properties(0).total_memory)
    return free_bytes(torch.device("cuda", torch.cuda.current_device()))


def _read_record(run_dir: Path) -> dict[str, Any] | None:
    """What was chosen for a training that has begun in a folder, by dotted key."""
    for folder in (run_dir, run_dir / "panoptic"):
        path = folder / "config.yaml"
        if path.is_file():
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
            if isinstance(config, dict) and config.get("choose_from_data"):
                return {k: v for k, v in flatten(config).items() if f"{k}.".startswith(_CHOSEN)}
    return None
