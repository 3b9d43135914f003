"""Weights into a backbone: everything fits, or nothing is changed."""

from refine.detector.backbone import Backbone, published_keys
from refine.errors import RefineError
from refine.options import BACKBONES, BackboneOptions
from refine.options.model import BASIC_BACKBONES
from refine.weights.formats import read_weights
from refine.weights.sources import DownloadError, locate_weights
from refine.weights.stored import IMAGENET, PixelStats, Weights, describe_misfit


def load_backbone_weights(backbone: Backbone, spec: str, *, options: BackboneOptions) -> PixelStats:
    """Load published weights into a backbone (of these options), which is changed in place.

    ``spec`` is ``none``, or what :func:`locate_weights` finds and :func:`read_weights` reads. The
    pyramid keeps its random weights, and deformable convolutions their zero offsets.

    Returns:
        How the backbone wants its images normalised (RGB); for :func:`pixel_buffers`.

    Raises:
        RefineError: Unknown weights, no network, a missing, damaged or unsafe file, weights of
            another normalisation or place of the stride, or keys that do not fit.
    """
    if spec == "none":
        is_own = options.name in BACKBONES.added
        if options.norm == "frozen_bn" and not is_own:  # of no data: activations would overflow
            raise RefineError(
                "weights=none with model.backbone.norm=frozen_bn cannot train; give weights, or "
                "add model.backbone.norm=gn model.backbone.frozen_stages=0"
            )
        return IMAGENET
    try:
        weights = read_weights(locate_weights(spec, backbone=options.name))
    except DownloadError as error:
        raise RefineError(
            f"weights={spec}: {error}, give a local file as weights=PATH, or start from random "
            "weights with weights=none model.backbone.norm=gn"
        ) from None
    except RefineError as error:
        reason = str(error).removeprefix(f"{spec}: ")
        raise RefineError(f"weights={spec}: {reason}") from None
    if conflict := _find_conflict(weights, options):
        raise RefineError(f"weights={spec} {conflict}")
    is_own = options.name in BACKBONES.added
    _load_strictly(backbone, weights, spec, has_more=is_own)
    return weights.pixels


def _find_conflict(weights: Weights, options: BackboneOptions) -> str | None:
    """Why a backbone of these options cannot use the weights, and the fix; None if it can."""
    if options.name in BACKBONES.added:
        return None
    norm, is_gn = options.norm, weights.norm == "gn"
    if is_gn != (norm == "gn"):
        return (
            f"are {'GN' if is_gn else 'BN'} weights but model.backbone.norm={norm}; use weights of "
            f"the same normalisation, model.backbone.norm={'gn' if is_gn else 'frozen_bn'}, or "
            "weights=none"
        )
    if weights.norm == "affine" and norm != "frozen_bn":
        return (
            f"hold batch norms without their statistics but model.backbone.norm={norm} would "
            "measure new ones; use model.backbone.norm=frozen_bn"
        )
    if options.name not in BASIC_BACKBONES and weights.stride_in_1x1 != options.stride_in_1x1:
        place, fix = ("first 1x1", "true") if weights.stride_in_1x1 else ("3x3", "false")
        return (
            f"have their stride in the {place} convolution of a block; set "
            f"model.backbone.stride_in_1x1={fix}"
        )
    return None


def _load_strictly(backbone: Backbone, weights: Weights, spec: str, *, has_more: bool) -> None:
    """``has_more``: the weights may hold more than the backbone, such as a classifier."""
    state, expected = backbone.state_dict(), published_keys(backbone)
    given, wanted = (
        {k for k in keys if not k.endswith("num_batches_tracked")}  # not needed for anything
        for keys in (weights.tensors, expected)
    )
    given = given & wanted if has_more else given
    misshaped = {
        f"{key} {list(weights.tensors[key].shape)} for {list(state[expected[key]].shape)}"
        for key in given & wanted
        if weights.tensors[key].shape != state[expected[key]].shape
    }
    misfit = describe_misfit(missing=wanted - given, unknown=given - wanted, misshaped=misshaped)
    if misfit:
        raise RefineError(f"weights={spec} do not fit this backbone; {misfit}")
    backbone.load_state_dict({expected[k]: weights.tensors[k] for k in given}, strict=False)
