"""Converts published weights and checkpoints to the form of this package."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from refine.atomic import write_atomically
from refine.coco_format.coco_categories import coco_categories
from refine.config import compose
from refine.config.settings import ConvertSettings, TrainSettings
from refine.errors import RefineError
from refine.runs.checkpoint import make_record
from refine.runs.console import say
from refine.runs.restore import build_pipeline
from refine.weights.detectron2 import PanopticFPN, convert_state, recognise
from refine.weights.detectron2_config import MODEL_ZOO, read_detectron2_config
from refine.weights.formats import read_content, read_weights
from refine.weights.sources import locate_weights
from refine.weights.stored import PixelStats, read_state, save_weights


def convert(settings: ConvertSettings) -> Path:
    """Convert a weights file or a checkpoint.

    Returns the file written. A backbone's weights are safetensors: torchvision's key names, for RGB
    images; the metadata holds the pixel statistics, the normalisation and the place of the stride.
    A Panoptic-FPN of detectron2 is a checkpoint of ours (``.ckpt``).

    Raises:
        RefineError: The source cannot be had, read or trusted, or ``out`` cannot be written.
    """
    out = Path(settings.out)
    is_whole = settings.format == "detectron2" or out.suffix == ".ckpt"
    _check_name(out, settings.format, is_whole=is_whole)
    source = locate_weights(settings.source)
    if out.exists() and out.samefile(source):
        raise RefineError(f"out={out} is the source itself; choose another name")
    if is_whole:
        content = read_content(source)
        kind = convert_detectron2(content, out, source=str(source), config=settings.config)
        head = "cascade" if kind.cascade else "plain"
        say(f"{out}: detectron2's Panoptic-FPN, {kind.backbone}, {head} box head; evaluate it with")
        say(f"  python -m refine.evaluate ckpt_path={out} data.root=COCO")
        return out
    weights = read_weights(source, file_format=settings.format, prefix=settings.prefix)
    weights = replace(weights, pixels=_choose_pixels(weights.pixels, settings))
    save_weights(weights, out)
    stride = str(weights.stride_in_1x1).lower()
    say(
        f"{out}: {len(weights.tensors)} tensors; norm {weights.norm}; RGB mean "
        f"{list(weights.pixels.mean)}, std {list(weights.pixels.std)}; stride_in_1x1={stride}"
    )
    return out


def convert_detectron2(
    content: Mapping[str, Any], out: Path, *, source: str, config: str | None = MODEL_ZOO
) -> PanopticFPN:
    """Write a Panoptic-FPN of detectron2 as a checkpoint, whole or not at all; what it is.

    It carries its own configuration: the ``model`` that is the same function, the two-step resize
    of ``fusion=detectron2``, and COCO's categories and image sizes. ``content`` are arrays or
    tensors by name, on their own or under ``model``; messages call it ``source``. ``config`` says
    what the content does not (:func:`read_detectron2_config`).

    Raises:
        RefineError: Not one of detectron2's Panoptic-FPNs on COCO, or ``out`` cannot be written.
    """
    state = read_state(content, source=source)
    kind = recognise(state, source=source)
    given = read_detectron2_config(config, source=source)
    settings = compose_settings(kind, given.overrides)
    with torch.device("meta"):  # names and shapes are enough
        network = build_pipeline(settings, categories=coco_categories()).network
    converted = convert_state(
        state, network, cascade=kind.cascade, source=source, pixels=given.pixels
    )
    record = {
        "state_dict": {f"pipeline.network.{key}": value for key, value in converted.items()},
        "refine": make_record(settings.to_plain(), coco_categories()),
    }
    try:
        with write_atomically(out) as part:
            torch.save(record, part)
    except (OSError, RuntimeError) as error:
        raise RefineError(f"{out}: cannot be written ({error}); choose another out=") from None
    mean, std = (converted[f"pixel_{name}"].flatten().tolist() for name in ("mean", "std"))
    backbone, data = settings.model.backbone, settings.data
    say(
        f"{config or MODEL_ZOO}: stride_in_1x1={str(backbone.stride_in_1x1).lower()}, RGB mean "
        f"{[round(v, 3) for v in mean]}, std {[round(v, 3) for v in std]}, anchors "
        f"{data.anchors.sizes_px} px, image {data.image.eval_short_side_px}/"
        f"{data.image.eval_max_long_side_px or data.image.max_long_side_px} px"
    )
    return kind


def compose_settings(kind: PanopticFPN, overrides: Sequence[str] = ()) -> TrainSettings:
    """What ``refine.train`` would use to train the same network, but for these overrides."""
    model = "cascade_panoptic_fpn_d2" if kind.cascade else "panoptic_fpn_d2"
    groups = ["data=coco_panoptic", f"model={model}", "fusion=detectron2", "run_dir=."]
    own = [f"model.backbone.name={kind.backbone}", "data.image.resize=pillow"]
    settings: TrainSettings = compose("train", [*groups, *own, *overrides])
    return settings


def _choose_pixels(known: PixelStats, settings: ConvertSettings) -> PixelStats:
    mean, std = settings.pixel_mean or known.mean, settings.pixel_std or known.std
    values: list[Any] = [tuple(mean), tuple(std)]
    try:
        return PixelStats(*values)
    except ValueError:
        raise RefineError(
            f"pixel_mean={list(mean)} pixel_std={list(std)}: give [R, G, B] in 0..255, std above 0"
        ) from None


def _check_name(out: Path, file_format: str, *, is_whole: bool) -> None:
    if is_whole and file_format not in ("auto", "detectron2"):
        raise RefineError(
            f"format={file_format} gives a backbone's weights, and a .ckpt is a whole network; "
            "end out= in .safetensors"
        )
    if not out.suffix:
        raise RefineError(
            f"out={out}: end the name in .safetensors for a backbone's weights, or in .ckpt for a "
            "whole network of detectron2"
        )
    suffix, result = (".ckpt", "a checkpoint") if is_whole else (".safetensors", "safetensors")
    if out.suffix != suffix:
        raise RefineError(f"out={out}: the result is {result}; end the name in {suffix}")
