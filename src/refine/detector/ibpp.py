"""Iterative bi-directional prediction projection: one function an equation of the paper.

Symbols: ``F_sem`` semantic feature at stride 4, ``P_sem^(t)`` semantic logits at stride 4,
``m^(t)`` mask logits, ``P_ins^(t)`` canvas. Iterations count from 1; ``P_sem^(0)`` is the map that
no instance has touched. With T = 0 there is one plain mask head and nothing crosses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from refine.detector.mask_head import MASK_INPUT_SIDE, MaskHead
from refine.detector.semantic_head import RefinedSemanticHead, SemanticPredictor
from refine.ops.roi_align import pool_rois
from refine.ops.roi_flatten import flatten_rois
from refine.options import IBPPOptions, RoIOptions
from refine.types import STRIDE


@dataclass(frozen=True, slots=True, eq=False)
class MaskRoIs:
    """RoIs that get a mask, of a batch.

    Attributes:
        boxes: B tensors ``[N_b, 4]`` xyxy network pixels; no gradient passes them.
        labels: ``[N]`` int64 thing categories, image by image.
        scores: ``[N]`` in [0, 1], no gradient: how far each is to be believed.
    """

    boxes: Sequence[Tensor]
    labels: Tensor
    scores: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """Masks laid out on the image, plane by plane (``P_ins``).

    Attributes:
        values: ``[B, K, h, w]`` float32 in [0, 1].
        planes: ``[K]`` int64 ascending: thing category of each plane; all others are zero.
    """

    values: Tensor
    planes: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class IterationOutput:
    """What one iteration says.

    Attributes:
        mask_logits: ``[N, 28, 28]``.
        canvas: As the semantic head reads it.
        semantic_logits: ``[B, C, h, w]``.
    """

    mask_logits: Tensor
    canvas: Canvas
    semantic_logits: Tensor


class IBPP(nn.Module):
    """Mask heads and semantic heads that read each other.

    Args:
        options: What crosses, and how often.
        roi: Shape of the mask heads.
        channels: Width of RoI features.
        semantic_channels: Width of F_sem.
        num_things: Thing categories.
        num_categories: Things and stuff.
        merge_things: ``H_sem`` has one logit for all things.
    """

    def __init__(
        self,
        options: IBPPOptions,
        *,
        roi: RoIOptions,
        channels: int,
        semantic_channels: int,
        num_things: int,
        num_categories: int,
        merge_things: bool = False,
    ) -> None:
        super().__init__()
        self.options = options
        self.sampling_ratio = roi.sampling_ratio
        crosses = options.num_iterations > 0 and options.semantics_cross
        num_heads = 1 if options.share_heads else options.num_iterations
        self.mask_heads = nn.ModuleList(
            MaskHead(
                channels + (num_categories if crosses else 0),
                1 if roi.mask_class_agnostic else num_things,
                channels=roi.mask_channels,
                num_convs=roi.mask_convs,
                norm=roi.mask_norm,
                reads_earlier=options.mask_info_flow and (k > 0 or options.share_heads),
            )
            for k in range(max(num_heads, 1))
        )
        self.semantic_predictor = SemanticPredictor(
            semantic_channels, num_categories, num_merged=num_things if merge_things else 0
        )
        self.refined_heads = nn.ModuleList(
            RefinedSemanticHead(
                semantic_channels,
                num_planes=num_things if options.canvas_crosses else 0,
                num_categories=num_categories,
                num_convs=options.refine_convs,
            )
            for _ in range(num_heads)
        )

    def predict_semantics(self, feature: Tensor) -> Tensor:
        """Eq. 1: ``P_sem^(0) = H_sem(F_sem)``, ``[B, C, h, w]``."""
        return self.semantic_predictor(feature)  # type: ignore[no-any-return]

    def predict_plain_masks(self, roi_features: Tensor, labels: Tensor) -> Tensor:
        """The baseline's masks (T = 0): ``[N, 28, 28]`` logits from the RoI feature alone."""
        return self.mask_heads[0](roi_features, labels)  # type: ignore[no-any-return]

    def join_features(
        self, roi_features: Tensor, feature: Tensor, boxes: Sequence[Tensor]
    ) -> Tensor:
        """Eqs. 2 and 4, the part that no iteration changes: ``f_ins + f_sem``.

        Args:
            roi_features: f_ins, ``[N, channels, 14, 14]``.
            feature: F_sem.
            boxes: Of the RoIs.

        Returns:
            ``[N, channels, 14, 14]``; ``f_ins`` itself if features do not cross.
        """
        if not self.options.features_cross:
            return roi_features
        return roi_features + self._pool(self._cross(feature), boxes, MASK_INPUT_SIDE)

    def project_to_boxes(
        self,
        roi_features: Tensor,
        feature: Tensor,
        semantic_logits: Tensor,
        boxes: Sequence[Tensor],
    ) -> Tensor:
        """Eqs. 2 to 4 for the box heads (``project_to_box``): both features and p_sem.

        Returns:
            ``[N, channels + C, side, side]``.
        """
        side = roi_features.shape[-1]
        joined = roi_features + self._pool(self._cross(feature), boxes, side)
        return torch.cat([joined, self.pool_semantics(semantic_logits, boxes, side)], dim=1)

    def iterate(
        self,
        iteration: int,
        joined: Tensor,
        *,
        feature: Tensor,
        semantic_logits: Tensor,
        rois: MaskRoIs,
        canvas_gain: float = 1.0,
    ) -> IterationOutput:
        """One iteration: eqs. 3 to 6.

        Args:
            iteration: 1 to T.
            joined: Of :meth:`join_features` for the same RoIs.
            feature: F_sem, ``[B, channels, h, w]``.
            semantic_logits: ``P_sem^(t-1)``.
            rois: RoIs of this iteration.
            canvas_gain: Factor on the canvas in [0, 1].
        """
        projected = self.project_semantics(joined, semantic_logits, rois.boxes)
        mask_logits = self.predict_masks(iteration, projected, rois.labels)
        canvas = self.project_masks(mask_logits, rois, semantic_logits.shape[-2:], canvas_gain)
        refined = self.refine_semantics(iteration, feature, canvas)
        return IterationOutput(mask_logits, canvas, refined)

    def project_semantics(
        self, joined: Tensor, semantic_logits: Tensor, boxes: Sequence[Tensor]
    ) -> Tensor:
        """Eqs. 3 and 4, semantic to instance: ``concat(f_ins + f_sem, p_sem)``.

        Returns:
            ``[N, channels + C, 14, 14]``, or ``joined`` itself if semantics do not cross.
        """
        if not self.options.semantics_cross:
            return joined
        pooled = self.pool_semantics(semantic_logits, boxes, MASK_INPUT_SIDE)
        return torch.cat([joined, pooled], dim=1)

    def pool_semantics(self, semantic_logits: Tensor, boxes: Sequence[Tensor], side: int) -> Tensor:
        """Eq. 3: ``p_sem = RoIAlign(P_sem)``, ``[N, C, side, side]`` float32."""
        crossing = self._cross(semantic_logits)
        if self.options.project == "softmax":
            crossing = crossing.float().softmax(dim=1)
        return self._pool(crossing, boxes, side)

    def predict_masks(self, iteration: int, projected: Tensor, labels: Tensor) -> Tensor:
        """Eq. 4: ``m^(t) = H~_ins(...)`` at the label's channel, ``[N, 28, 28]`` logits."""
        earlier: Tensor | None = None
        if self.options.mask_info_flow:
            for t in range(1, iteration):
                earlier = self._mask_head(t).compute_features(projected, earlier)
        return self._mask_head(iteration)(  # type: ignore[no-any-return]
            projected, labels, earlier
        )

    def project_masks(
        self, mask_logits: Tensor, rois: MaskRoIs, size: Sequence[int], gain: float = 1.0
    ) -> Canvas:
        """Eq. 5, instance to semantic: ``P_ins^(t) = ROI-Flatten(m^(t))``.

        Args:
            mask_logits: ``[N, 28, 28]``.
            rois: Their RoIs. Those below ``canvas_score_thresh`` are left out, in training too: the
                semantic head learns on what it will read.
            size: ``(h, w)`` of the canvas.
            gain: Factor on the canvas.
        """
        probabilities = self._cross(mask_logits).float().sigmoid()
        if self.options.canvas_weight == "score":
            probabilities = probabilities * rois.scores[:, None, None]
        counts = [len(b) for b in rois.boxes]
        is_written = rois.scores >= self.options.canvas_score_thresh
        is_written &= self.options.canvas_crosses
        planes = torch.unique(rois.labels[is_written])
        images = zip(
            *(torch.split(x, counts) for x in (probabilities * gain, rois.labels, is_written)),
            rois.boxes,
            strict=True,
        )
        values = [
            flatten_rois(
                masks[kept],
                boxes[kept],
                torch.searchsorted(planes, labels[kept]),
                num_planes=len(planes),
                size=(int(size[0]), int(size[1])),
                reduce=self.options.canvas_reduce,
            )
            for masks, labels, kept, boxes in images
        ]
        return Canvas(torch.stack(values), planes)

    def refine_semantics(self, iteration: int, feature: Tensor, canvas: Canvas) -> Tensor:
        """Eq. 6: ``P_sem^(t) = H~_sem(concat(P_ins^(t), F_sem))``, ``[B, C, h, w]``."""
        head = self.refined_heads[0 if self.options.share_heads else iteration - 1]
        return head(feature, canvas.values, canvas.planes)  # type: ignore[no-any-return]

    def _mask_head(self, iteration: int) -> MaskHead:
        return cast(MaskHead, self.mask_heads[0 if self.options.share_heads else iteration - 1])

    def _cross(self, prediction: Tensor) -> Tensor:
        """What passes from one task to the other, with or without its gradient."""
        return prediction.detach() if self.options.detach else prediction

    def _pool(self, feature: Tensor, boxes: Sequence[Tensor], side: int) -> Tensor:
        return pool_rois(
            [feature],
            boxes,
            strides=[STRIDE],
            side=side,
            canonical_size_px=1.0,  # there is one level to choose from
            sampling_ratio=self.sampling_ratio,
        )
