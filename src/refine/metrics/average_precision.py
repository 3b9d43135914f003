"""COCO's AP of boxes and masks, through torchmetrics and whichever COCO evaluator is there."""

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision
from torchmetrics.wrappers.abstract import WrapperMetric

from refine.ops.memory import release_memory
from refine.ops.outlines import decode_mask
from refine.types import InstanceTruth, MaskCrop

_TRIM_EVERY = 50  # images


class AveragePrecision(WrapperMetric):
    """AP averaged over IoU .50:.95 and categories, of boxes and of masks, crowds ignored.

    It uses faster-coco-eval if that is installed, else pycocotools: equal values, a fraction of
    the time. At most 100 detections per image count, as in COCO.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self._num_updates = 0
        is_fast = find_spec("faster_coco_eval") is not None
        self._inner = MeanAveragePrecision(
            iou_type=("bbox", "segm"), backend="faster_coco_eval" if is_fast else "pycocotools"
        )
        self._inner.warn_on_many_detections = False

    def update(
        self,
        boxes: Tensor,
        scores: Tensor,
        *,
        labels: Tensor,
        masks: Sequence[MaskCrop],
        truth: InstanceTruth,
        size: tuple[int, int],
        is_padding: bool = False,
    ) -> None:
        """Add an image of ``size`` ``(height, width)``; everything is in original pixels.

        Args:
            boxes: ``[N, 4]`` float xyxy.
            scores: ``[N]`` float in [0, 1].
            labels: ``[N]`` int64 thing categories.
            masks: N masks.
            truth: True instances of the image.
            size: Size of the image.
            is_padding: The image only fills up a distributed sampler. It enters as one without
                instances and detections, which AP does not see: processes have to hold equally
                many images when torchmetrics collects them.
        """
        predicted = {
            "boxes": boxes.float(),
            "scores": scores.float(),
            "labels": labels,
            "masks": _to_full_size(masks, size),
        }
        true = {
            "boxes": torch.from_numpy(truth.boxes).float(),
            "labels": torch.from_numpy(truth.labels),
            "iscrowd": torch.from_numpy(truth.is_crowd.astype(np.int64)),
            "masks": _to_full_size([decode_mask(coded) for coded in truth.masks], size),
        }
        # masks become run lengths on the host at once; the rest is collected over processes
        for entry in (predicted, true):
            for key, values in entry.items():
                kept = values[:0] if is_padding else values
                entry[key] = kept if key == "masks" else kept.to(self._inner.device)
        self._inner.update([predicted], [true])
        self._num_updates += 1
        if self._num_updates % _TRIM_EVERY == 0:
            release_memory()

    def compute(self) -> dict[str, Tensor]:
        """``ap_box`` and ``ap_mask``, fractions; 0 if no image has an instance."""
        values = self._inner.compute()
        release_memory()
        box, mask = (values[name].clamp(min=0) for name in ("bbox_map", "segm_map"))
        return {"ap_box": box, "ap_mask": mask}

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self._inner.reset()


def _to_full_size(crops: Sequence[MaskCrop], size: tuple[int, int]) -> Tensor:
    full = np.zeros((len(crops), *size), np.uint8)
    for canvas, crop in zip(full, crops, strict=True):
        canvas[crop.slices] = crop.mask
    return torch.from_numpy(full)
