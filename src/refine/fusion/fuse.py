"""Everything after the network: one raw prediction becomes one panoptic map."""

import numpy as np
import torch
from torch import Tensor

from refine.errors import RefineError
from refine.fusion.merge import Instance, merge_segments
from refine.fusion.semantic import semantic_map
from refine.ops.masks import paste_masks
from refine.options import FusionOptions, MergeOptions
from refine.types import PanopticPrediction, RawPrediction


def fuse(
    raw: RawPrediction, *, num_things: int, options: FusionOptions, stuff_area_limit_px: int
) -> PanopticPrediction:
    """Paste the instances, resize the semantic map and merge, at original size.

    Args:
        raw: The network's output for one image, on any device.
        num_things: Categories from here on are stuff.
        options: Limits.
        stuff_area_limit_px: Stuff with fewer original pixels becomes void.

    Returns:
        The panoptic map at original size.

    Raises:
        RefineError: The output holds NaN or infinity.
    """
    _require_finite(raw)
    semantic = semantic_map(raw.semantic_logits, raw.image_size, raw.original_size)
    return merge_segments(
        paste_instances(raw, options.merge),
        semantic,
        num_things=num_things,
        options=options.merge,
        stuff_area_limit_px=stuff_area_limit_px,
    )


def paste_instances(raw: RawPrediction, options: MergeOptions) -> list[Instance]:
    """Instances of sufficient score, pasted at original size.

    Args:
        raw: The network's output for one image, on any device.
        options: ``score_thresh`` and ``mask_thresh`` are read.
    """
    kept = raw.scores >= options.score_thresh
    crops = paste_masks(
        raw.mask_logits[kept].float().sigmoid().cpu().numpy(),
        to_original_boxes(raw)[kept].cpu().numpy(),
        raw.original_size,
        threshold=options.mask_thresh,
    )
    labels, scores = raw.labels[kept].tolist(), raw.scores[kept].tolist()
    return [Instance(*parts) for parts in zip(crops, labels, scores, strict=True)]


def to_original_boxes(raw: RawPrediction) -> Tensor:
    """``[N, 4]`` float32 xyxy original pixels."""
    vertical, horizontal = np.divide(raw.original_size, raw.image_size).tolist()
    scale = raw.boxes.new_tensor([horizontal, vertical, horizontal, vertical])
    return raw.boxes * scale


def _require_finite(raw: RawPrediction) -> None:
    for name in ("boxes", "scores", "mask_logits", "semantic_logits"):
        # NaN and infinity reach the sum, and one pass is enough; float32, as half's would overflow
        if not getattr(raw, name).sum(dtype=torch.float32).isfinite():
            raise RefineError(
                f"the network's output is not finite ({name}): its training has diverged; "
                "use an earlier checkpoint or train with a lower optimizer.lr"
            )
