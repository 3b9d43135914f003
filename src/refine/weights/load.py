"""Weights into a backbone: everything fits, or nothing is changed."""

from refine.detector.backbone import Backbone, published_keys
from refine.errors import RefineError
from refine.options import BackboneOptions
from refine.weights.download import DownloadError
from refine.weights.formats import read_weights
from refine.weights.sources import locate_weights
from refine.weights.stored import IMAGENET, PixelStats, Weights, describe_misfit

_COUNTER = "num_batches_tracked"  # of a batch norm; not needed for anything


def load_backbone_weights(backbone: Backbone, spec: str, *, options: BackboneOptions) -> PixelStats:
    """Load published weights into a backbone.

    The pyramid keeps its random weights, and deformable convolutions their zero offsets.

    Args:
        backbone: Changed in place.
        spec: ``none``, ``torchvision:NAME`` (for example ``torchvision:IMAGENET1K_V1``),
            ``timm:NAME``, ``c2:NAME``, an address, or a path; all but ``none`` may end in
            ``@sha256:HEX``. Files may be of any format that :func:`read_weights` knows.
        options: Options that the backbone was built from.

    Returns:
        How the backbone wants its images normalised (RGB); for :func:`apply_pixel_stats`.

    Raises:
        RefineError: Unknown weights, no network, a missing, damaged or unsafe file, weights of
            another normalisation or place of the stride, or keys that do not fit. Only the
            classifier is dropped silently.
    """
    if spec == "none":
        if options.norm == "frozen_bn":  # of no data: activations would overflow
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
        raise RefineError(f"weights={spec}: {error}") from None
    _check_norm(weights.norm, spec, options.norm)
    _check_stride(weights.stride_in_1x1, spec, options)
    _load_strictly(backbone, weights, spec)
    return weights.pixels


def _check_norm(given: str, spec: str, norm: str) -> None:
    if (given == "gn") != (norm == "gn"):
        is_gn = given == "gn"
        raise RefineError(
            f"weights={spec} are {'GN' if is_gn else 'BN'} weights but model.backbone.norm={norm}; "
            "use weights of the same normalisation, model.backbone.norm="
            f"{'gn' if is_gn else 'frozen_bn'}, or weights=none"
        )
    if given == "affine" and norm != "frozen_bn":
        raise RefineError(
            f"weights={spec} hold batch norms without their statistics but model.backbone.norm="
            f"{norm} would measure new ones; use model.backbone.norm=frozen_bn"
        )


def _check_stride(given: bool, spec: str, options: BackboneOptions) -> None:
    if options.name != "r18" and given != options.stride_in_1x1:
        place = "first 1x1" if given else "3x3"
        raise RefineError(
            f"weights={spec} have their stride in the {place} convolution of a block; set "
            f"model.backbone.stride_in_1x1={str(given).lower()}"
        )


def _load_strictly(backbone: Backbone, weights: Weights, spec: str) -> None:
    state, expected = backbone.state_dict(), published_keys(backbone)
    given = {key for key in weights.tensors if not key.endswith(_COUNTER)}
    wanted = {key for key in expected if not key.endswith(_COUNTER)}
    misshaped = {
        f"{key} {list(weights.tensors[key].shape)} for {list(state[expected[key]].shape)}"
        for key in given & wanted
        if weights.tensors[key].shape != state[expected[key]].shape
    }
    misfit = describe_misfit(missing=wanted - given, unknown=given - wanted, misshaped=misshaped)
    if misfit:
        raise RefineError(f"weights={spec} do not fit this backbone; {misfit}")
    backbone.load_state_dict({expected[k]: weights.tensors[k] for k in given}, strict=False)
