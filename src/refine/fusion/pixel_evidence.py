"""Evidence whose semantic map is known at original size, instead of logits at stride 4."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from refine.errors import RefineError
from refine.fusion.evidence import Evidence
from refine.fusion.merge import Instance
from refine.fusion.semantic import interpolate_logits
from refine.fusion.unknown_erasing import Regions, score_regions
from refine.options import MergeOptions, UnknownErasingOptions
from refine.types import IGNORE_INDEX, MaskCrop, RawPrediction

_PIXELS_A_PASS = 65_536


class PixelEvidence(Evidence):
    """A raw prediction, whose semantic logits are not read, and a semantic map.

    Args:
        raw: The prediction.
        semantic: ``[H, W]`` uint8 category of every original pixel, or 255.
        probabilities: ``[H, W]`` float32 probability of that category; None if it is not known.
        num_things: Number of thing categories.
        is_checked: Whether the prediction is known to be finite.
    """

    def __init__(
        self,
        raw: RawPrediction,
        semantic: np.ndarray,
        probabilities: np.ndarray | None,
        *,
        num_things: int,
        is_checked: bool = False,
    ) -> None:
        super().__init__(raw, num_things=num_things, is_checked=is_checked)
        self._semantic, self._probabilities = semantic, probabilities

    def semantic_map(self, resize: str = "direct") -> np.ndarray:  # noqa: ARG002 - has the size
        """The map."""
        return self._semantic

    def regions(self, options: UnknownErasingOptions, *, resize: str = "direct") -> Regions:
        """Erasable regions of pixels; a :class:`RefineError` without probabilities."""
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


class GivenEvidence(PixelEvidence):
    """N masks and a semantic map at the size of the image, of anyone's making.

    Args:
        crops: The masks.
        scores: ``[N]`` float64 in [0, 1].
        labels: ``[N]`` int64 thing categories.
        boxes: ``[N, 4]`` float64 xyxy pixels, finite.
        semantic: See :class:`PixelEvidence`, as for ``probabilities``.
        num_things: Number of thing categories.
    """

    def __init__(
        self,
        crops: Sequence[MaskCrop],
        scores: np.ndarray,
        labels: np.ndarray,
        boxes: np.ndarray,
        semantic: np.ndarray,
        probabilities: np.ndarray | None,
        *,
        num_things: int,
    ) -> None:
        size = (semantic.shape[0], semantic.shape[1])
        raw = RawPrediction(
            boxes=torch.from_numpy(boxes),
            scores=torch.from_numpy(scores),
            labels=torch.from_numpy(labels),
            mask_logits=torch.empty(len(scores), 0, 0),
            semantic_logits=torch.empty(0),
            image_size=size,
            original_size=size,
        )
        super().__init__(raw, semantic, probabilities, num_things=num_things, is_checked=True)
        self._crops = crops

    def instances(self, options: MergeOptions) -> list[Instance]:
        """The masks of sufficient score by descending score."""
        scores, labels = self.raw.scores.tolist(), self.raw.labels.tolist()
        order = sorted(range(len(scores)), key=lambda k: -scores[k])
        return [
            Instance(self._crops[k], labels[k], scores[k], k)
            for k in order
            if scores[k] >= options.score_thresh
        ]


def average_semantics(
    raws: Sequence[RawPrediction], are_flipped: Sequence[bool], *, resize: str = "direct"
) -> tuple[np.ndarray, np.ndarray]:
    """The best category of every original pixel by its mean probability over several views.

    The logits of each view are interpolated to the original size, a softmax makes them
    probabilities, and those of a mirrored view are turned back.

    Args:
        raws: The views' predictions for one image.
        are_flipped: Which views are mirrored left and right.
        resize: See :func:`~refine.fusion.semantic.semantic_map`.

    Returns:
        ``[H, W]`` uint8 category and float32 mean probability of it.
    """
    height, width = raws[0].original_size
    categories, probabilities = [], []
    step = max(_PIXELS_A_PASS // width, 1)
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        total = sum(
            _share(raw, rows, is_flipped=is_flipped, resize=resize)
            for raw, is_flipped in zip(raws, are_flipped, strict=True)
        )
        assert isinstance(total, Tensor)
        best, category = (total / len(raws)).max(dim=0)
        categories.append(category.byte().cpu().numpy())
        probabilities.append(best.cpu().numpy())
    return np.concatenate(categories), np.concatenate(probabilities)


def _share(raw: RawPrediction, rows: slice, *, is_flipped: bool, resize: str) -> Tensor:
    """``[C, n, W]`` probabilities in some rows of the original image."""
    sizes = raw.image_size, raw.original_size
    logits = interpolate_logits(raw.semantic_logits, *sizes, rows=rows, resize=resize)
    shares = torch.softmax(logits, dim=0)
    return shares.flip(-1) if is_flipped else shares
