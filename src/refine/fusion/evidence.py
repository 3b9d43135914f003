"""What the fusion of one image looks at: each piece computed once, however many settings ask."""

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from refine.errors import RefineError
from refine.fusion.merge import Instance
from refine.fusion.overlaps import Overlaps, pair_overlaps
from refine.fusion.semantic import semantic_map
from refine.fusion.unknown_erasing import Regions, erasable_regions
from refine.ops.masks import paste_masks
from refine.options import MergeOptions, UnknownErasingOptions
from refine.types import RawPrediction

_T = TypeVar("_T")


class Evidence:
    """One raw prediction, on any device, and what has been derived from it.

    A :class:`RefineError` if it holds NaN or infinity, unless it ``is_checked`` already.
    """

    def __init__(self, raw: RawPrediction, *, num_things: int, is_checked: bool = False) -> None:
        if not is_checked:
            require_finite(replace(raw, occlusions={}, rankings={}))
        self.raw = raw
        self.num_things = num_things
        self._derived: dict[Hashable, object] = {}

    def semantic_map(self, resize: str = "direct") -> np.ndarray:
        """:func:`~refine.fusion.semantic.semantic_map` of the logits, nothing erased."""
        logits, sizes = self.raw.semantic_logits, (self.raw.image_size, self.raw.original_size)
        return self.once(("semantic", resize), lambda: semantic_map(logits, *sizes, resize=resize))

    def instances(self, options: MergeOptions) -> list[Instance]:
        """See :func:`paste_instances`."""
        key = ("instances", options.score_thresh, options.mask_thresh)
        return self.once(key, lambda: paste_instances(self.raw, options))

    def overlaps(self, options: MergeOptions) -> Overlaps:
        """Overlaps between the masks of :meth:`instances`."""
        key = ("overlaps", options.score_thresh, options.mask_thresh)
        return self.once(key, lambda: pair_overlaps([i.crop for i in self.instances(options)]))

    def regions(self, options: UnknownErasingOptions, *, resize: str = "direct") -> Regions:
        """Erasable regions of :meth:`semantic_map`; ``mode`` and ``score_thresh`` are not read."""
        key = ("regions", options.at, options.dilation_frac, options.categories, resize)
        return self.once(
            key,
            lambda: erasable_regions(
                self.raw.semantic_logits,
                self.semantic_map(resize),
                image_size=self.raw.image_size,
                num_things=self.num_things,
                options=options,
            ),
        )

    def once(self, key: Hashable, compute: Callable[[], _T]) -> _T:
        """What ``compute`` gave when ``key`` was first asked for."""
        if key not in self._derived:
            self._derived[key] = compute()
        return cast(_T, self._derived[key])


def paste_instances(raw: RawPrediction, options: MergeOptions) -> list[Instance]:
    """Instances of sufficient score by descending score, pasted at original size."""
    order = torch.argsort(raw.scores, descending=True, stable=True)
    kept = order[raw.scores[order] >= options.score_thresh]
    crops = paste_masks(
        raw.mask_logits[kept].float().sigmoid().cpu().numpy(),
        to_original_boxes(raw)[kept].cpu().numpy(),
        raw.original_size,
        threshold=options.mask_thresh,
    )
    parts = (crops, raw.labels[kept].tolist(), raw.scores[kept].tolist(), kept.tolist())
    return [Instance(*values) for values in zip(*parts, strict=True)]


def to_original_boxes(raw: RawPrediction) -> Tensor:
    """``[N, 4]`` float32 xyxy original pixels."""
    vertical, horizontal = np.divide(raw.original_size, raw.image_size).tolist()
    return raw.boxes * raw.boxes.new_tensor([horizontal, vertical, horizontal, vertical])


def require_finite(raw: RawPrediction) -> None:
    """Raise a :class:`RefineError` if an output of the network or its heads is not finite."""
    outputs = {k: getattr(raw, k) for k in ("boxes", "scores", "mask_logits", "semantic_logits")}
    outputs |= {f"occlusion/{name}": o.probabilities for name, o in raw.occlusions.items()}
    outputs |= {f"ranking/{name}": scores for name, scores in raw.rankings.items()}
    for name, values in outputs.items():
        # NaN and infinity reach the sum, and one pass is enough; float32, as half's would overflow
        if not values.sum(dtype=torch.float32).isfinite():
            raise RefineError(
                f"the network's output is not finite ({name}): its training has diverged; "
                "use an earlier checkpoint or train with a lower optimizer.lr"
            )
