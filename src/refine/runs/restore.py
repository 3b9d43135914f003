"""Pipelines: built from options, and restored from checkpoints."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from torch import nn

from refine.categories import CategoryTable
from refine.config.settings import Sections
from refine.detector.refine_net import RefineNet
from refine.errors import RefineError
from refine.order.heads import build_head
from refine.pipeline import Pipeline
from refine.runs.checkpoint import (
    Checkpoint,
    check_categories,
    check_model,
    hash_weights,
    read_checkpoint,
)


def build_pipeline(sections: Sections, *, categories: CategoryTable) -> Pipeline:
    """Network with random weights, and its fusion."""
    network = RefineNet(
        sections.model,
        anchors=sections.data.anchors,
        num_things=categories.num_things,
        num_categories=len(categories),
    )
    return Pipeline(
        network,
        num_things=categories.num_things,
        fusion=sections.fusion,
        stuff_area_limit_px=sections.data.stuff_area_limit_px,
    )


def restore_pipeline(checkpoint: Checkpoint, sections: Sections | None = None) -> Pipeline:
    """The pipeline of a checkpoint with its heads, in eval mode on the CPU.

    Raises:
        RefineError: The weights do not fit ``sections`` (by default the checkpoint's own).
    """
    sections = sections or checkpoint.sections
    try:
        pipeline = build_pipeline(sections, categories=checkpoint.categories)
        for name in checkpoint.heads:
            pipeline.heads[name] = _build_head(pipeline, checkpoint, name)
        pipeline.load_state_dict(checkpoint.weights)
    except (MemoryError, RuntimeError, TypeError, ValueError) as error:
        check_model(checkpoint, asdict(sections.model))
        reason = " ".join(str(error).split())[:300]
        message = f"ckpt_path={checkpoint.path} does not fit these model options: {reason}"
        raise RefineError(message) from None
    return pipeline.eval()


def add_heads(pipeline: Pipeline, detector: Checkpoint, paths: Mapping[str, str]) -> None:
    """Put heads of other checkpoints beside those of a pipeline that ``detector`` gave, in place.

    ``paths`` are checkpoints of ``stage=occlusion`` or ``stage=ranking`` by the name that their
    head is to have here. A file with several heads gives the one of that name.

    Raises:
        RefineError: A file without such a head, or one trained on another detector.
    """
    network = hash_weights(detector.network) if paths else ""
    for name, path in paths.items():
        checkpoint = read_checkpoint(Path(path))
        check_categories(checkpoint, detector.categories, source=str(detector.path))
        source = name if name in checkpoint.heads else next(iter(checkpoint.heads), "")
        if name not in checkpoint.heads and len(checkpoint.heads) != 1:
            kept = ", ".join(checkpoint.heads) or "none; train one with stage=occlusion"
            raise RefineError(f"{checkpoint.path} has no head {name!r}; its heads: {kept}")
        if hash_weights(checkpoint.network) != network:
            raise RefineError(
                f"{path}: head {source!r} was trained on another detector than {detector.path}; "
                f"train it on this one with stage=occlusion detector_ckpt_path={detector.path}"
            )
        head = _build_head(pipeline, checkpoint, source)
        try:
            head.load_state_dict(checkpoint.head(source))
        except RuntimeError as error:
            raise RefineError(f"{path}: head {source!r} is damaged ({error!s:.99})") from None
        pipeline.heads[name] = head.eval()


def _build_head(pipeline: Pipeline, checkpoint: Checkpoint, name: str) -> nn.Module:
    try:
        return build_head(
            checkpoint.heads[name],
            in_channels=pipeline.network.backbone.channels,
            num_things=pipeline.num_things,
        )
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise RefineError(
            f"{checkpoint.path}: head {name!r} is damaged ({error!r:.99}); use another checkpoint"
        ) from None
