"""Outputs of other libraries as :func:`refine.fuse_predictions` takes them; none is imported."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from refine.errors import RefineError
from refine.ops.arrays import to_array
from refine.types import IGNORE_INDEX

_Categories = Sequence[Mapping[str, Any]]


def from_torchvision(output: Mapping[str, Any], categories: _Categories) -> dict[str, np.ndarray]:
    """Instances of an output of torchvision's Mask R-CNN.

    Its labels are ids of the dataset (1 to 90 of COCO); here they become positions in
    ``categories``.

    Args:
        output: ``boxes`` ``[N, 4]``, ``labels`` and ``scores`` ``[N]``, ``masks`` ``[N, 1, H, W]``.
        categories: As for :func:`refine.fuse_predictions`.

    Raises:
        RefineError: A label is the id of no category.

    Example:
        >>> import numpy as np
        >>> import refine
        >>> output = {  # of torchvision.models.detection.maskrcnn_resnet50_fpn
        ...     "boxes": [[0, 0, 4, 4]], "labels": [17], "scores": [0.9],
        ...     "masks": np.ones((1, 1, 4, 6)) * (np.arange(6) < 4),
        ... }
        >>> categories = [{"id": 1, "name": "rug", "isthing": 0}]
        >>> categories += [{"id": 17, "name": "cat", "isthing": 1}]
        >>> instances = refine.from_torchvision(output, categories)
        >>> instances["labels"].tolist()
        [1]
        >>> result = refine.fuse_predictions(
        ...     instances, np.zeros((4, 6), int), categories=categories, stuff_area_limit_px=1
        ... )
        >>> [(segment.name, segment.area) for segment in result.segments]
        [('cat', 16), ('rug', 8)]
    """
    positions = {int(c["id"]): k for k, c in enumerate(categories)}
    found = to_array(output["labels"]).reshape(-1).tolist()
    for label in found:
        if label not in positions:
            raise RefineError(f"labels: {label} is the id of no category; give the model's own")
    instances = {key: to_array(output[key]) for key in ("boxes", "scores", "masks")}
    return instances | {"labels": np.array([positions[label] for label in found], np.int64)}


def from_huggingface(
    result: Mapping[str, Any],
    categories: _Categories,
    *,
    semantic: ArrayLike | Tensor | None = None,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Instances and a semantic map of what an image processor of Hugging Face returns.

    That is an item of ``post_process_panoptic_segmentation`` or of
    ``post_process_instance_segmentation`` (as a map or with ``return_binary_maps=True``) of
    Mask2Former, MaskFormer, OneFormer or DETR. A ``label_id`` is a position in ``categories``.

    Args:
        result: ``segmentation``: ``[H, W]`` ids, ``[N, H, W]`` binary masks in the order of
            ``segments_info``, or None where nothing was found; and ``segments_info``, a list of
            ``id``, ``label_id`` and perhaps ``score``.
        categories: As for :func:`refine.fuse_predictions`, in the order of the model's
            ``id2label``.
        semantic: The semantic prediction, such as ``post_process_semantic_segmentation`` returns;
            by default the segments of stuff, and void elsewhere.

    Raises:
        RefineError: No size is known, a label is no position, or masks and segments differ in
            number.

    Example:
        >>> import numpy as np
        >>> import refine
        >>> result = {  # of processor.post_process_panoptic_segmentation(...)[0]
        ...     "segmentation": np.array([[1, 1, 2], [1, 2, 2]]),
        ...     "segments_info": [
        ...         {"id": 1, "label_id": 0, "score": 0.8, "was_fused": False},
        ...         {"id": 2, "label_id": 1, "score": 0.9, "was_fused": True},
        ...     ],
        ... }
        >>> categories = [{"id": 17, "name": "cat", "isthing": 1}]
        >>> categories += [{"id": 200, "name": "rug", "isthing": 0}]
        >>> instances, semantic = refine.from_huggingface(result, categories)
        >>> semantic.tolist()
        [[255, 255, 1], [255, 1, 1]]
        >>> fused = refine.fuse_predictions(
        ...     instances, semantic, categories=categories, stuff_area_limit_px=1
        ... )
        >>> fused.segment_map.tolist()
        [[1, 1, 2], [1, 2, 2]]
    """
    infos = list(result["segments_info"])
    masks = _read_masks(result["segmentation"], infos, semantic)
    labels = np.array([info["label_id"] for info in infos], np.int64)
    for label in labels.tolist():
        if not 0 <= label < len(categories):
            raise RefineError(
                f"segments_info: label_id {label} is no position in categories (0 to "
                f"{len(categories) - 1}); give them in the order of the model's id2label"
            )
    is_thing = np.array([bool(categories[k]["isthing"]) for k in labels.tolist()], bool)
    scores = np.array([info.get("score", 1.0) for info in infos], np.float64)
    instances = {"masks": masks[is_thing], "scores": scores[is_thing], "labels": labels[is_thing]}
    if semantic is not None:
        return instances, to_array(semantic)
    painted = np.full(masks.shape[1:], IGNORE_INDEX, np.int64)
    for mask, label in zip(masks[~is_thing], labels[~is_thing].tolist(), strict=True):
        painted[mask] = label
    return instances, painted


def _read_masks(
    segmentation: Any, infos: Sequence[Mapping[str, Any]], semantic: ArrayLike | Tensor | None
) -> np.ndarray:
    """``[N, H, W]`` bool, one for each segment."""
    if segmentation is None:
        if semantic is None or infos:
            raise RefineError(
                "segmentation: None says nothing of the size of the image; give semantic="
            )
        return np.zeros((0, *to_array(semantic).shape[-2:]), bool)
    values = to_array(segmentation)
    if values.ndim == 2:
        ids = np.array([info["id"] for info in infos], np.int64)
        found: np.ndarray = values == ids[:, None, None]
        return found
    if values.ndim != 3 or len(values) != len(infos):
        raise RefineError(
            f"segmentation: shape {values.shape}; expected [H, W] ids or a mask for each of the "
            f"{len(infos)} segments"
        )
    masks: np.ndarray = values > 0
    return masks
