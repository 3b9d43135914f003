"""A Panoptic-FPN checkpoint of detectron2 becomes one that evaluates and predicts here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from refine.atomic import write_atomically
from refine.coco_format.coco_categories import coco_categories
from refine.config import compose
from refine.config.settings import TrainSettings
from refine.errors import RefineError
from refine.runs.checkpoint import make_record
from refine.runs.restore import build_pipeline
from refine.weights.detectron2 import PanopticFPN, convert_state, read_state, recognise


def convert_detectron2(content: Mapping[str, Any], out: Path, *, source: str) -> PanopticFPN:
    """Write a checkpoint for ``refine.evaluate`` and ``refine.predict``.

    It carries its own configuration: the ``model`` that is the same function, the two-step resize
    of ``fusion=detectron2``, and COCO's categories and image sizes.

    Args:
        content: Arrays or tensors by name, on their own or under ``model``.
        out: The new checkpoint; written whole or not at all.
        source: File name shown in error messages.

    Returns:
        Which network it is.

    Raises:
        RefineError: Not one of detectron2's Panoptic-FPNs on COCO, or ``out`` cannot be written.
    """
    state = read_state(content, source=source)
    kind = recognise(state, source=source)
    settings = compose_settings(kind)
    with torch.device("meta"):  # names and shapes are enough
        network = build_pipeline(settings, categories=coco_categories()).network
    converted = convert_state(state, network, cascade=kind.cascade, source=source)
    record = {
        "state_dict": {f"pipeline.network.{key}": value for key, value in converted.items()},
        "refine": make_record(settings.to_plain(), coco_categories()),
    }
    _write(record, out)
    return kind


def compose_settings(kind: PanopticFPN) -> TrainSettings:
    """What ``refine.train`` would use to train the same network."""
    model = "cascade_panoptic_fpn_d2" if kind.cascade else "panoptic_fpn_d2"
    overrides = ["data=coco_panoptic", f"model={model}", "fusion=detectron2"]
    settings: TrainSettings = compose(
        "train", [*overrides, f"model.backbone.name={kind.backbone}", "run_dir=."]
    )
    return settings


def _write(record: dict[str, Any], out: Path) -> None:
    try:
        with write_atomically(out) as part:
            torch.save(record, part)
    except (OSError, RuntimeError) as error:
        raise RefineError(f"{out}: cannot be written ({error}); choose another out=") from None
