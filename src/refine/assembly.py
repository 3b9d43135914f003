"""Puts options together into the objects that commands run."""

from dataclasses import asdict

from refine.categories import CategoryTable
from refine.checkpoint import Checkpoint, check_model
from refine.errors import RefineError
from refine.models.refine_net import RefineNet
from refine.options import DataOptions, FusionOptions, ModelOptions
from refine.pipeline import Pipeline


def build_pipeline(
    model: ModelOptions, data: DataOptions, fusion: FusionOptions, *, categories: CategoryTable
) -> Pipeline:
    """Network with random weights, and its fusion."""
    network = RefineNet(
        model,
        anchors=data.anchors,
        num_things=categories.num_things,
        num_categories=len(categories),
    )
    return Pipeline(
        network,
        num_things=categories.num_things,
        fusion=fusion,
        stuff_area_limit_px=data.stuff_area_limit_px,
    )


def restore_pipeline(
    checkpoint: Checkpoint, model: ModelOptions, data: DataOptions, fusion: FusionOptions
) -> Pipeline:
    """The pipeline of a checkpoint, in eval mode.

    Raises:
        RefineError: The weights do not fit the model options.
    """
    pipeline = build_pipeline(model, data, fusion, categories=checkpoint.categories)
    try:
        pipeline.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        check_model(checkpoint, asdict(model))
        reason = " ".join(str(error).split())[:300]
        raise RefineError(
            f"ckpt_path={checkpoint.path} does not fit these model options: {reason}"
        ) from None
    return pipeline.eval()
