"""Exports a checkpoint for programs that do not have this package, or do not trust pickles."""

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from refine.atomic import write_atomically
from refine.config.settings import ExportSettings
from refine.detector.dense import DENSE_OUTPUTS, DensePart
from refine.errors import RefineError, first_line
from refine.runs.checkpoint import Checkpoint, read_checkpoint
from refine.runs.console import say
from refine.runs.restore import restore_pipeline
from refine.weights.bundle import save_bundle

_SUFFIXES = {"bundle": ".safetensors", "torch": ".pt2", "onnx": ".onnx"}
_TOLERANCE = 1e-3
_CHECKED_SIZES = ((1, 96, 128), (3, 160, 96))  # batch, height, width; none is the traced one
_Outputs = Callable[[Tensor], list[Tensor]]


def export(settings: ExportSettings) -> Path:
    """Write a checkpoint as a bundle, or its dense part as a program that was checked.

    Raises:
        RefineError: A bad checkpoint, a missing extra, a part that cannot be exported, or a program
            whose results differ from the network's.
    """
    out, form = Path(settings.out), settings.format
    if form == "auto":
        form = next((f for f, suffix in _SUFFIXES.items() if suffix == out.suffix), "")
    if _SUFFIXES.get(form) != out.suffix:
        endings = ", ".join(f"{suffix} ({name})" for name, suffix in _SUFFIXES.items())
        raise RefineError(f"out={out}: the ending must be that of the format: {endings}")
    checkpoint = read_checkpoint(Path(settings.ckpt_path))
    if form == "bundle":
        weights = {f"pipeline.{name}": t for name, t in checkpoint.weights.items()}
        save_bundle(out, weights, _describe(checkpoint))
        say(f"{out}: {len(weights)} tensors with their configuration; open it with refine.load")
        return out
    dense = DensePart(restore_pipeline(checkpoint).network).eval().requires_grad_(False)
    if form == "torch":
        difference = _export_torch(dense, out, _describe(checkpoint))
    else:
        difference = _export_onnx(dense, out, _describe(checkpoint))
    say(f"{out}: images to {', '.join(DENSE_OUTPUTS)}; differs by {difference:.1e} at most")
    return out


def _describe(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "config": checkpoint.config,
        "categories": checkpoint.categories.to_json(),
        "heads": checkpoint.heads,
    }


@torch.no_grad()
def _trace(dense: DensePart) -> ExportedProgram:
    """The program of any batch size and of all sides that are multiples of 32 from 96 on."""
    sides = {axis: 32 * Dim(name, min=3, max=512) for axis, name in ((2, "rows"), (3, "columns"))}
    images = torch.rand(2, 3, 128, 160) * 255
    with _quiet():
        try:
            return torch.export.export(
                dense, (images,), dynamic_shapes=({0: Dim("batch"), **sides},)
            )
        except Exception as error:  # a dozen kinds
            raise RefineError(
                f"the dense part cannot be exported ({first_line(error)}); docs/export.md"
            ) from error


def _export_torch(dense: DensePart, out: Path, record: dict[str, Any]) -> float:
    program = _trace(dense)
    with write_atomically(out) as part:
        with _quiet():
            with part.open("wb") as file:
                torch.export.save(program, file, extra_files={"refine.json": json.dumps(record)})
            with part.open("rb") as file:
                module = torch.export.load(file).module()
        return _check(dense, lambda images: list(module(images)), out)


def _export_onnx(dense: DensePart, out: Path, record: dict[str, Any]) -> float:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime reports to its maker
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ImportError as error:
        raise RefineError(
            f"format=onnx: {error.name} is not installed; pip install 'refine-panoptic[export]'"
        ) from None
    traced = _trace(dense)
    with _quiet():
        try:
            program = torch.onnx.export(
                traced,
                dynamo=True,
                verbose=False,
                input_names=["images"],
                output_names=DENSE_OUTPUTS,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise RefineError(
                f"the dense part has no ONNX form ({first_line(error)}); format=torch has one, "
                "docs/export.md"
            ) from error
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, {"refine": json.dumps(record)})
    with write_atomically(out) as part:
        onnx.save(model, part)
        session = onnxruntime.InferenceSession(part, providers=["CPUExecutionProvider"])

        def run(images: Tensor) -> list[Tensor]:
            found = session.run(None, {"images": images.numpy()})
            return [torch.from_numpy(values) for values in found]

        return _check(dense, run, out)


@torch.no_grad()
def _check(dense: DensePart, run: _Outputs, out: Path) -> float:
    """The largest relative difference between the program and the network."""
    largest = 0.0
    for batch, height, width in _CHECKED_SIZES:
        images = torch.rand(batch, 3, height, width) * 255
        for name, ours, theirs in zip(DENSE_OUTPUTS, dense(images), run(images), strict=True):
            difference = float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1))
            if not difference <= _TOLERANCE:
                raise RefineError(f"{out}: {name} differs by {difference:.1e} from the network's")
            largest = max(largest, difference)
    return largest


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' advice to their developers."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
