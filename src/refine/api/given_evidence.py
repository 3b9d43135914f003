"""Instance and semantic predictions as arrays, in the form that the fusion looks at."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from refine.categories import CategoryTable
from refine.errors import RefineError
from refine.fusion.evidence import Evidence
from refine.fusion.merge import Instance
from refine.fusion.unknown_erasing import Regions, score_regions
from refine.ops.arrays import to_array
from refine.ops.outlines import tight_crop
from refine.options import MergeOptions, UnknownErasingOptions
from refine.types import IGNORE_INDEX, MaskCrop, PairOcclusions, RawPrediction

_MASK_THRESH = MergeOptions().mask_thresh
_NOTHING = MaskCrop(y=0, x=0, mask=np.zeros((0, 0), bool))


class GivenEvidence(Evidence):
    """The evidence of one image, from masks and a semantic map that already have its size.

    Args:
        instances: ``masks``, ``scores``, ``labels`` and, if wanted, ``boxes``, as
            :func:`refine.fuse_predictions` explains them.
        semantic: ``[H, W]`` positions in ``categories``, or ``[C, H, W]`` logits or probabilities.
        categories: Table, or COCO's list.
        occlusions: ``[N, N]`` probabilities that i lies on top of j, by name of their head.

    Attributes:
        categories: The table of the categories.

    Raises:
        RefineError: Arrays whose shapes or values do not fit.
    """

    def __init__(
        self,
        instances: Mapping[str, Any],
        semantic: ArrayLike | Tensor,
        *,
        categories: CategoryTable | Sequence[Mapping[str, Any]],
        occlusions: Mapping[str, ArrayLike | Tensor],
    ) -> None:
        self.categories = CategoryTable.of(categories)
        if isinstance(categories, CategoryTable):
            order = np.arange(len(categories))
        else:
            order = np.array([self.categories.to_contiguous(int(c["id"])) for c in categories])
        self._semantic, self._probabilities = _read_semantic(semantic, order)
        size = self._semantic.shape
        self._masks, scores, labels = _read_instances(instances, size)
        is_thing = np.isin(labels, np.flatnonzero(order < self.categories.num_things))
        if not is_thing.all():
            raise RefineError(
                f"instances['labels']: {labels[~is_thing][0]} is no position of a thing in "
                f"categories (0 to {len(order) - 1})"
            )
        boxes = _read_boxes(instances, self._masks)
        raw = RawPrediction(
            boxes=torch.from_numpy(boxes),
            scores=torch.from_numpy(scores),
            labels=torch.from_numpy(order[labels]),
            mask_logits=torch.empty(len(scores), 0, 0),
            semantic_logits=torch.empty(0),
            image_size=size,
            original_size=size,
            occlusions={k: _read_occlusions(o, len(scores)) for k, o in occlusions.items()},
        )
        super().__init__(raw, num_things=self.categories.num_things)

    def semantic_map(self, resize: str = "direct") -> np.ndarray:  # noqa: ARG002 - it has the size already
        """``[H, W]`` uint8 contiguous category or 255."""
        return self._semantic

    def instances(self, options: MergeOptions) -> list[Instance]:
        """Instances of sufficient score by descending score."""
        key = ("instances", options.score_thresh, options.mask_thresh)
        return self.once(key, lambda: self._cut(options))

    def regions(self, options: UnknownErasingOptions, *, resize: str = "direct") -> Regions:
        """Regions of the semantic map that may be erased, made of pixels."""
        if self._probabilities is None:
            raise RefineError(
                "unknown_erasing.mode=score needs the semantic prediction as [C, H, W] logits or "
                "probabilities, not as a map"
            )
        semantic = self.semantic_map(resize)
        first = 0 if options.categories == "all" else self.num_things
        considered = np.where(semantic >= first, semantic, np.uint8(IGNORE_INDEX))
        radius = round(options.dilation_frac * min(semantic.shape))
        return score_regions(considered, self._probabilities, radius=radius)

    def _cut(self, options: MergeOptions) -> list[Instance]:
        scores, labels = self.raw.scores.tolist(), self.raw.labels.tolist()
        order = torch.argsort(self.raw.scores, descending=True, stable=True).tolist()
        return [
            Instance(_crop(self._masks[k], options.mask_thresh), labels[k], scores[k], k)
            for k in order
            if scores[k] >= options.score_thresh
        ]


def _crop(mask: np.ndarray, threshold: float) -> MaskCrop:
    return tight_crop(mask if mask.dtype == bool else mask >= threshold) or _NOTHING


def _read_semantic(
    semantic: ArrayLike | Tensor, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """``[H, W]`` uint8 contiguous category, and float32 its probability if that is known."""
    values = to_array(semantic)
    if values.ndim not in (2, 3) or not values.size:
        raise RefineError(f"semantic: shape {values.shape}; expected [H, W] or [C, H, W]")
    table = np.full(IGNORE_INDEX + 1, IGNORE_INDEX, np.uint8)
    table[: len(order)] = order
    if values.ndim == 2:
        known = (values >= 0) & (values < len(order)) | (values == IGNORE_INDEX)
        if values.dtype.kind not in "iu" or not known.all():
            raise RefineError(f"semantic: expected integers 0 to {len(order) - 1}, or 255 for void")
        return table[values], None
    if len(values) != len(order) or not np.isfinite(values).all():
        raise RefineError(
            f"semantic: {len(values)} channels; expected {len(order)}, one for each category, of "
            "finite values"
        )
    probabilities = values if _are_probabilities(values) else _softmax(values)
    return table[values.argmax(axis=0)], probabilities.max(axis=0).astype(np.float32)


def _are_probabilities(values: np.ndarray) -> bool:
    return bool((values >= 0).all() and np.allclose(values.sum(axis=0), 1, atol=1e-2))


def _softmax(values: np.ndarray) -> np.ndarray:
    return torch.from_numpy(values).float().softmax(dim=0).numpy()


def _read_instances(
    instances: Mapping[str, Any], size: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Masks ``[N, H, W]``, scores ``[N]`` float and labels ``[N]`` int64."""
    missing = [key for key in ("masks", "scores", "labels") if key not in instances]
    if missing:
        raise RefineError(f"instances: no {missing[0]!r}; give masks, scores and labels")
    masks = to_array(instances["masks"])
    if masks.ndim == 4 and masks.shape[1] == 1:
        masks = masks[:, 0]
    scores, labels = (to_array(instances[key]).reshape(-1) for key in ("scores", "labels"))
    if not len(scores):
        masks, labels = np.zeros((0, *size), bool), labels.astype(np.int64)
    if masks.shape != (len(scores), *size) or len(labels) != len(scores):
        raise RefineError(
            f"instances: {len(scores)} scores, {len(labels)} labels and masks of shape "
            f"{masks.shape}; expected as many of each, masks of the semantic prediction's size"
        )
    if labels.dtype.kind not in "iu":
        raise RefineError(f"instances['labels']: {labels.dtype}; expected integers")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise RefineError("instances['scores']: expected numbers in [0, 1]")
    return masks, scores.astype(np.float64), labels.astype(np.int64)


def _read_boxes(instances: Mapping[str, Any], masks: np.ndarray) -> np.ndarray:
    """``[N, 4]`` float64 xyxy."""
    if instances.get("boxes") is None:
        crops = [_crop(mask, _MASK_THRESH) for mask in masks]
        places = [(c.x, c.y, c.x + c.mask.shape[1], c.y + c.mask.shape[0]) for c in crops]
        return np.array(places, np.float64).reshape(-1, 4)
    boxes = to_array(instances["boxes"]).astype(np.float64)
    if boxes.size != 4 * len(masks) or not np.isfinite(boxes).all():
        raise RefineError(
            f"instances['boxes']: shape {boxes.shape}; expected [{len(masks)}, 4] finite numbers"
        )
    return boxes.reshape(-1, 4)


def _read_occlusions(occlusions: ArrayLike | Tensor, number: int) -> PairOcclusions:
    """The answers about every ordered pair."""
    matrix = to_array(occlusions)
    pairs = np.argwhere(~np.eye(number, dtype=bool))
    if matrix.shape != (number, number):
        raise RefineError(f"occlusions: shape {matrix.shape}; expected {(number, number)}")
    probabilities = matrix[pairs[:, 0], pairs[:, 1]].astype(np.float64)
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise RefineError("occlusions: expected probabilities in [0, 1] off the diagonal")
    return PairOcclusions(
        pairs=torch.from_numpy(pairs), probabilities=torch.from_numpy(probabilities)
    )
