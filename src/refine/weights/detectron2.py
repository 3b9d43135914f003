"""detectron2's Panoptic-FPN checkpoints under our own keys.

Names and layouts are facts of its files, read in detectron2 (Apache-2.0): ``modeling/backbone/
{resnet,fpn}.py``, ``modeling/proposal_generator/rpn.py``, ``modeling/roi_heads/*.py`` and
``modeling/meta_arch/semantic_seg.py``. Four things are arranged differently:

- It reads BGR. The input channels of the first convolution are reversed, and the pixel statistics
  with them, so the network is the same function of RGB images.
- Its box classifier has background last, ours first.
- Its mask predictor is a 1x1 convolution, ours the matrix of one.
- Its checkpoints may hold anchors. They must be the ones that the options give, and go.

Its order of categories is ours: things, then stuff, each by ascending dataset id. The semantic
head's first output stands for all things (``model.semantic.merge_things``).
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from refine.detector.refine_net import RefineNet
from refine.errors import RefineError
from refine.ops.boxes import lay_anchors
from refine.weights.stored import CAFFE2, PixelStats, describe_misfit, pixel_buffers

_BODY = "backbone.bottom_up"
_ANCHORS = "proposal_generator.anchor_generator.cell_anchors."
_PIXELS = ("pixel_mean", "pixel_std")
_BLOCKS_OF_RES4 = {6: "r50", 23: "r101"}

_PREFIXES = {
    "backbone.stem": f"{_BODY}.stem",
    **{f"backbone.stages.layer{k}": f"{_BODY}.res{k + 1}" for k in range(1, 5)},
    **{f"backbone.fpn.inner_blocks.{k}": f"backbone.fpn_lateral{k + 2}" for k in range(4)},
    **{f"backbone.fpn.layer_blocks.{k}": f"backbone.fpn_output{k + 2}" for k in range(4)},
    "proposals.head.conv.0.0": "proposal_generator.rpn_head.conv",
    "proposals.head.cls_logits": "proposal_generator.rpn_head.objectness_logits",
    "proposals.head.bbox_pred": "proposal_generator.rpn_head.anchor_deltas",
    **{f"ibpp.mask_heads.0.convs.{k}": f"roi_heads.mask_head.mask_fcn{k + 1}" for k in range(4)},
    "ibpp.mask_heads.0.deconv": "roi_heads.mask_head.deconv",
    **{f"semantic_trunk.levels.{k}": f"sem_seg_head.p{k + 2}" for k in range(4)},
    "ibpp.semantic_predictor.predictor": "sem_seg_head.predictor",
}
_BLOCK = r"(fpn_(?:lateral|output)\d|mask_fcn\d|sem_seg_head\.p\d\.\d)"  # convolution and norm
_PATTERNS = (
    (r"box_cascade\.stages\.(\d)\.head\.fc", r"roi_heads.box_head.\1.fc"),
    (r"box_cascade\.stages\.(\d)\.head\.classifier", r"roi_heads.box_predictor.\1.cls_score"),
    (r"box_cascade\.stages\.(\d)\.head\.regressor", r"roi_heads.box_predictor.\1.bbox_pred"),
    (r"ibpp\.mask_heads\.0\.predictor_", "roi_heads.mask_head.predictor."),
    (r"\.conv2\.offsets\.", ".conv2_offset."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
    (_BLOCK + r"\.0\.", r"\1."),
    (_BLOCK + r"\.1\.", r"\1.norm."),
)
_FIRST_STAGE = r"(roi_heads\.box_(?:head|predictor))\.0\."


class PanopticFPN(NamedTuple):
    """Which of detectron2's networks a checkpoint holds, with the ``backbone`` ``r50`` or ``r101``.

    With ``cascade`` it has three box stages, GroupNorm and deformable convolutions.
    """

    backbone: str
    cascade: bool


def recognise(state: Mapping[str, Tensor], *, source: str) -> PanopticFPN:
    """Which network the names are those of; a :class:`RefineError` if it is none that is known."""
    blocks = {k.split(".")[3] for k in state if k.startswith(f"{_BODY}.res4.")}
    if len(blocks) not in _BLOCKS_OF_RES4 or "sem_seg_head.predictor.weight" not in state:
        raise RefineError(
            f"{source}: not a Panoptic-FPN of detectron2 with ResNet-50 or 101 (it needs "
            f"{_BODY}.res4.* of 6 or 23 blocks and sem_seg_head.predictor.weight)"
        )
    cascade = "roi_heads.box_head.0.fc1.weight" in state
    return PanopticFPN(_BLOCKS_OF_RES4[len(blocks)], cascade)


def _detectron2_key(key: str, *, cascade: bool) -> str:
    name = key
    for prefix, theirs in _PREFIXES.items():
        if name.startswith(f"{prefix}."):
            name = theirs + name.removeprefix(prefix)
            break
    for pattern, theirs in _PATTERNS:
        name = re.sub(pattern, theirs, name)
    if name == key and key not in _PIXELS:
        raise ValueError(f"{key}: detectron2's Panoptic-FPN has no such tensor")
    return name if cascade else re.sub(_FIRST_STAGE, r"\1.", name)


def convert_state(
    state: Mapping[str, Tensor],
    network: RefineNet,
    *,
    cascade: bool,
    source: str,
    pixels: PixelStats = CAFFE2,
) -> dict[str, Tensor]:
    """Convert tensors by detectron2's names to the state dict of our network, the same function.

    There is a float32 tensor on the CPU for every key of ``network``, which is only read: that of
    ``model=panoptic_fpn_d2`` or, with ``cascade``, ``model=cascade_panoptic_fpn_d2``, on any device
    (``meta`` too). ``pixels`` count unless the checkpoint has its own.

    Raises:
        RefineError: Missing, unknown or misshaped tensors, listed by name, or other anchors
            (``source``: file name).
    """
    expected = {k: v for k, v in network.state_dict().items() if k not in _PIXELS}
    names = {key: _detectron2_key(key, cascade=cascade) for key in expected}
    known = {*names.values(), *_PIXELS, *(k for k in state if k.startswith(_ANCHORS))}
    converted = {k: _rearrange(k, state[name]) for k, name in names.items() if name in state}
    misshaped = {
        f"{names[k]} {[*state[names[k]].shape]}"
        for k, value in converted.items()
        if value.shape != expected[k].shape
    }
    missing, unknown = set(names.values()) - set(state), set(state) - known
    if misfit := describe_misfit(missing=missing, unknown=unknown, misshaped=misshaped):
        raise RefineError(f"{source} does not fit detectron2's Panoptic-FPN on COCO; {misfit}")
    _check_anchors(state, network, source=source)
    return converted | _read_pixels(state, pixels)


def _rearrange(key: str, value: Tensor) -> Tensor:
    value = value.detach().cpu().float()
    if key == "backbone.stem.conv1.weight":
        return value.flip(1)
    if ".classifier." in key:
        return value.roll(1, dims=0)
    if key.endswith(".predictor_weight"):
        return value.flatten(1)
    return value


def _read_pixels(state: Mapping[str, Tensor], pixels: PixelStats) -> dict[str, Tensor]:
    """The checkpoint's own statistics if it has any; older ones leave them to the configuration."""
    if not all(name in state for name in _PIXELS):
        return pixel_buffers(pixels)
    mean, std = (tuple(state[name].flatten().tolist()) for name in _PIXELS)
    return pixel_buffers(PixelStats(mean, std, "bgr"))


def _check_anchors(state: Mapping[str, Tensor], network: RefineNet, *, source: str) -> None:
    options = network.proposals.anchors
    ours = lay_anchors(
        [(1, 1)] * len(options.sizes_px),
        strides=[(1, 1)] * len(options.sizes_px),
        sizes_px=options.sizes_px,
        aspect_ratios=options.aspect_ratios,
        rounded=False,
        device=torch.device("cpu"),
    )
    for level, anchors in enumerate(ours):
        theirs = state.get(f"{_ANCHORS}{level}", anchors)  # newer checkpoints hold none
        if theirs.shape != anchors.shape or not torch.allclose(theirs.float(), anchors, atol=1e-2):
            raise RefineError(
                f"{source}: its anchors of P{level + 2} are not those of data.anchors "
                f"({options.sizes_px[level]} px, aspect ratios {options.aspect_ratios})"
            )
