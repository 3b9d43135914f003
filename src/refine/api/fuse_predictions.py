"""The fusion of REFINE for anyone's instance and semantic predictions, given as arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from refine.api.given_evidence import GivenEvidence
from refine.api.panoptic_result import PanopticResult
from refine.api.settings import nest
from refine.categories import CategoryTable
from refine.config.instantiate import to_options
from refine.fusion.fuse import fuse
from refine.options import FusionOptions


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

    Categories are named by their position in ``categories``, counted from 0. Arrays and tensors
    are taken alike.

    Args:
        instances: The keys that torchvision's detectors return. ``masks``: ``[N, H, W]`` or
            ``[N, 1, H, W]``, bool or probabilities; ``scores``: ``[N]`` in [0, 1]; ``labels``:
            ``[N]`` integer, things; and, if ``relation`` is ``shr``, ``boxes``: ``[N, 4]`` xyxy
            pixels (by default the smallest ones around the masks).
        semantic: ``[H, W]`` integer map of categories, 255 for void; or ``[C, H, W]`` logits, or
            probabilities that add up to 1. Unknown Erasing needs one of the latter.
        categories: COCO's list of dictionaries with ``id``, ``name`` and ``isthing``.
        relation: Which of two overlapping instances lies on top: ``score`` (the one of the higher
            score), ``area`` (the smaller one), ``shr`` (the one inside the other's box),
            ``occlusion`` (as ``occlusions`` tells), ``soft_occlusion`` (the same, weighed against
            the scores: eq. 7).
        occlusions: ``[N, N]`` probabilities that instance i lies on top of instance j; the
            diagonal is not read.
        fusion: Further settings by their names on the command line
            (:class:`refine.options.FusionOptions`), for example ``{"relations.sigma": 2.0,
            "unknown_erasing.mode": "score"}``. Regions of Unknown Erasing are made of pixels.
        stuff_area_limit_px: Stuff segments with fewer pixels become void.
        image: ``[H, W, 3]`` uint8 RGB, for drawing the result.

    Returns:
        The panoptic map with its segments.

    Raises:
        RefineError: Arrays whose shapes or values do not fit, or an unknown setting.

    Example:
        >>> import numpy as np
        >>> import refine
        >>> categories = [
        ...     {"id": 1, "name": "cat", "isthing": 1},
        ...     {"id": 2, "name": "rug", "isthing": 0},
        ... ]
        >>> masks = np.zeros((2, 4, 6), bool)
        >>> masks[0, :, :4] = masks[1, :, 3:5] = True
        >>> result = refine.fuse_predictions(
        ...     {"masks": masks, "scores": [0.9, 0.8], "labels": [0, 0]},
        ...     np.ones((4, 6), int),
        ...     categories=categories,
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
    options = to_options(nest({"relations.kind": relation} | dict(fusion or {})), FusionOptions)
    evidence = GivenEvidence(
        instances,
        semantic,
        categories=categories,
        occlusions={} if occlusions is None else {options.relations.head: occlusions},
    )
    prediction = fuse(evidence, options, stuff_area_limit_px=stuff_area_limit_px)
    return PanopticResult.of(prediction, evidence.categories, image=image)
