"""What the mask heads should say of their RoIs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from refine.detector.box_cascade import Positives
from refine.detector.mask_head import MASK_SIDE
from refine.ops.masks import roi_mask_targets
from refine.ops.outlines import decode_mask
from refine.types import MaskCrop, TrainingTarget


class MaskTargets:
    """Mask targets of one batch; every instance is decoded once, however many heads ask.

    Args:
        targets: Of each image.
    """

    def __init__(self, targets: Sequence[TrainingTarget]) -> None:
        self._targets = targets
        self._crops: list[dict[int, MaskCrop]] = [{} for _ in targets]

    def compute(self, positives: Sequence[Positives]) -> Tensor:
        """``[sum P, 28, 28]`` soft masks in [0, 1], image by image, on the RoIs' device.

        Args:
            positives: RoIs of each image.
        """
        return torch.cat([self._of_image(k, p) for k, p in enumerate(positives)])

    def _of_image(self, index: int, positives: Positives) -> Tensor:
        crops, masks = self._crops[index], self._targets[index].masks
        matched = positives.matched.cpu().tolist()
        for k in set(matched) - crops.keys():
            crops[k] = decode_mask(masks[k])
        boxes = positives.boxes
        soft = roi_mask_targets([crops[k] for k in matched], boxes.cpu().numpy(), MASK_SIDE)
        return torch.from_numpy(soft).to(boxes.device)
