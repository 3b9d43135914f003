"""The fusion of REFINE for anyone's instance and semantic predictions, given as arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from refine.api.panoptic_result import PanopticResult
from refine.categories import CategoryTable
from refine.config.instantiate import to_options
from refine.errors import RefineError
from refine.fusion.fuse_evidence import fuse
from refine.fusion.pixel_evidence import GivenEvidence
from refine.ops.arrays import to_array
from refine.ops.outlines import tight_crop
from refine.options import FusionOptions, MergeOptions
from refine.types import IGNORE_INDEX, MaskCrop, PairOcclusions


def fuse_predictions(
    instances: Mapping[str, Any],
    semantic: ArrayLike | Tensor,
    *,
    categories: CategoryTable | Sequence[Mapping[str, Any]],
    relation: str = "score",
    occlusions: ArrayLike | Tensor | None = None,
    fusion: Mapping[str, Any] | None = None,
    stuff_area_limit_px: int = 4096,
    image: np.ndarray | None = None,
) -> PanopticResult:
    """Merge instance masks and a semantic segmentation of one image into a panoptic map.

    A category is its position in ``categories``, counted from 0. Arrays, lists and tensors on any
    device are taken alike.

    Args:
        instances: What torchvision's detectors return. ``masks``: ``[N, H, W]`` or ``[N, 1, H,
            W]``, bool or probabilities; ``scores``: ``[N]`` in [0, 1]; ``labels``: ``[N]`` integer
            things; ``boxes``: ``[N, 4]`` xyxy pixels, read by ``shr`` (by default those of the
            masks).
        semantic: ``[H, W]`` integer categories, 255 for void; or ``[C, H, W]`` logits or
            probabilities, which Unknown Erasing needs.
        categories: COCO's list of dictionaries with ``id``, ``name`` and ``isthing``.
        relation: Which of two overlapping instances lies on top: ``score`` (that of the higher
            score), ``area`` (the smaller one), ``shr`` (the one inside the other's box),
            ``occlusion`` (as ``occlusions`` says) or ``soft_occlusion`` (the same, weighed against
            the scores; eq. 7).
        occlusions: ``[N, N]`` probabilities that instance i lies on top of instance j; the
            diagonal is not read.
        fusion: Other settings of :class:`~refine.options.FusionOptions` by their names on the
            command line: ``{"relations.sigma": 2.0, "unknown_erasing.mode": "score"}``. Regions of
            Unknown Erasing are made of pixels.
        stuff_area_limit_px: Stuff segments with fewer pixels become void.
        image: ``[H, W, 3]`` uint8 RGB, for drawing the result.

    Raises:
        RefineError: Arrays whose shapes or values do not fit, or an unknown setting.

    Example:
        >>> import numpy as np
        >>> import refine
        >>> masks = np.zeros((2, 4, 6), bool)
        >>> masks[0, :, :4] = masks[1, :, 3:5] = True
        >>> result = refine.fuse_predictions(
        ...     {"masks": masks, "scores": [0.9, 0.8], "labels": [0, 0]},
        ...     np.ones((4, 6), int),
        ...     categories=[
        ...         {"id": 1, "name": "cat", "isthing": 1},
        ...         {"id": 2, "name": "rug", "isthing": 0},
        ...     ],
        ...     relation="soft_occlusion",
        ...     occlusions=[[0, 0.1], [0.9, 0]],
        ...     fusion={"relations.sigma": 0.5},
        ...     stuff_area_limit_px=1,
        ... )
        >>> result.segment_map[0].tolist()
        [1, 1, 1, 2, 2, 3]
        >>> [(segment.name, segment.area) for segment in result.segments]
        [('cat', 12), ('cat', 8), ('rug', 4)]
    """
    options = to_options({}, FusionOptions, changes={"relations.kind": relation, **(fusion or {})})
    table = CategoryTable.of(categories)
    order = np.arange(len(table))
    if not isinstance(categories, CategoryTable):
        order = np.array([table.to_contiguous(int(c["id"])) for c in categories])
    semantic_map, probabilities = read_semantic(to_array(semantic), order)
    masks, scores, labels = _read_instances(instances, semantic_map.shape)
    is_thing = np.isin(labels, np.flatnonzero(order < table.num_things))
    if not is_thing.all():
        raise RefineError(
            f"instances['labels']: {labels[~is_thing][0]} is no position of a thing in "
            f"categories (0 to {len(order) - 1})"
        )
    evidence = GivenEvidence(
        [_crop(mask, options.merge.mask_thresh) for mask in masks],
        scores,
        order[labels],
        _read_boxes(instances, masks),
        semantic_map,
        probabilities,
        num_things=table.num_things,
    )
    if occlusions is not None:
        answers = _read_occlusions(to_array(occlusions), len(evidence.raw.scores))
        evidence.raw.occlusions[options.relations.head] = answers
    prediction = fuse(evidence, options, stuff_area_limit_px=stuff_area_limit_px)
    return PanopticResult.of(prediction, table, image=image)


def read_semantic(values: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """A semantic prediction as :func:`fuse_predictions` takes it.

    ``order`` is the ``[C]`` contiguous category of each position that it names.

    Returns:
        ``[H, W]`` uint8 contiguous category, and float32 its probability if that is known.

    Raises:
        RefineError: Its shape or values do not fit.
    """
    table = np.full(IGNORE_INDEX + 1, IGNORE_INDEX, np.uint8)
    table[: len(order)] = order
    if values.ndim == 3 and len(values) == len(order) and np.isfinite(values).all():
        is_probable = (values >= 0).all() and np.allclose(values.sum(axis=0), 1, atol=0.01)
        shares = torch.from_numpy(np.ascontiguousarray(values, np.float32))
        shares = shares if is_probable else shares.softmax(dim=0)
        return table[values.argmax(axis=0)], shares.amax(dim=0).numpy()
    known = (values >= 0) & (values < len(order)) | (values == IGNORE_INDEX)
    if values.ndim != 2 or values.dtype.kind not in "iu" or not known.all():
        raise RefineError(
            f"semantic: {values.dtype} of shape {values.shape}; expected [H, W] integers 0 to "
            f"{len(order) - 1} (255: void) or [{len(order)}, H, W] finite numbers"
        )
    return table[values], None


def _crop(mask: np.ndarray, threshold: float) -> MaskCrop:
    crop = tight_crop(mask if mask.dtype == bool else mask >= threshold)
    return crop or MaskCrop(y=0, x=0, mask=np.zeros((0, 0), bool))


def _read_instances(
    instances: Mapping[str, Any], size: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Masks ``[N, H, W]``, scores ``[N]`` float64 and labels ``[N]`` int64."""
    missing = [key for key in ("masks", "scores", "labels") if key not in instances]
    if missing:
        raise RefineError(f"instances: no {missing[0]!r}; give masks, scores and labels")
    masks, scores, labels = (to_array(instances[key]) for key in ("masks", "scores", "labels"))
    if not scores.size:
        return np.zeros((0, *size), bool), np.zeros(0), np.zeros(0, np.int64)
    if masks.ndim == 4:
        masks = masks[:, 0]
    if masks.shape != (len(scores), *size) or labels.shape != scores.shape:
        raise RefineError(
            f"instances: scores, labels and masks have the shapes {scores.shape}, {labels.shape} "
            f"and {masks.shape}; expected [N], [N] and [N, {size[0]}, {size[1]}]"
        )
    if labels.dtype.kind not in "iu" or not ((scores >= 0) & (scores <= 1)).all():
        raise RefineError("instances: expected integer labels, and scores in [0, 1]")
    return masks, scores.astype(np.float64), labels.astype(np.int64)


def _read_boxes(instances: Mapping[str, Any], masks: np.ndarray) -> np.ndarray:
    """``[N, 4]`` float64 xyxy."""
    if instances.get("boxes") is None:
        crops = [_crop(mask, MergeOptions().mask_thresh) for mask in masks]
        places = [(c.x, c.y, c.x + c.mask.shape[1], c.y + c.mask.shape[0]) for c in crops]
        return np.array(places, np.float64).reshape(-1, 4)
    boxes = to_array(instances["boxes"])
    if boxes.size != 4 * len(masks):
        raise RefineError(f"instances['boxes']: shape {boxes.shape}; expected [{len(masks)}, 4]")
    if not np.isfinite(boxes).all():
        raise RefineError("instances['boxes']: expected finite pixels, found NaN or infinity")
    return boxes.astype(np.float64).reshape(-1, 4)


def _read_occlusions(matrix: np.ndarray, number: int) -> PairOcclusions:
    """The answers about every ordered pair."""
    if matrix.shape != (number, number):
        raise RefineError(f"occlusions: shape {matrix.shape}; expected {(number, number)}")
    is_pair = ~np.eye(number, dtype=bool)
    pairs, values = np.argwhere(is_pair), matrix[is_pair].astype(np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise RefineError("occlusions: expected probabilities in [0, 1] off the diagonal")
    return PairOcclusions(pairs=torch.from_numpy(pairs), probabilities=torch.from_numpy(values))
