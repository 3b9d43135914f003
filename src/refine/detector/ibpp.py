"""Iterative bi-directional prediction projection: one function per equation, one loop over T.

Symbols: ``F_sem`` semantic feature at stride 4, ``P_sem^(t)`` semantic logits at stride 4,
``m^(t)`` mask logits, ``P_ins^(t)`` canvas. Iterations count from 1; ``P_sem^(0)`` is the map that
no instance has touched. With T = 0 there is one plain mask head and nothing crosses.

With ``refine=residual``, ``join=embedding`` and ``mask_start=zero`` nothing that crosses changes
any result before the first step: the network starts as the one with ``direction=none``.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from refine.detector.blocks import named_draws
from refine.detector.mask_head import MASK_INPUT_SIDE, MASK_SIDE, MaskHead
from refine.detector.rois import RoIs
from refine.detector.semantic_head import RefinedSemanticHead, SemanticPredictor
from refine.ops.conversion import make_convolvable
from refine.ops.roi_align import pool_rois
from refine.ops.roi_flatten import flatten_rois
from refine.options import IBPPOptions, RoIOptions
from refine.types import STRIDE


@dataclass(frozen=True, slots=True, eq=False)
class IterationOutput:
    """Predictions of one iteration.

    Attributes:
        semantic_logits: ``P_sem^(t)``, ``[B, C, h, w]``.
        rois: RoIs that have masks; None at iteration 0 of IBPP, which has no masks.
        mask_logits: ``m^(t)``, ``[N, 28, 28]``, image by image.
        canvas: ``P_ins^(t)``, ``[B, K, h, w]`` float32 in [0, 1], as the semantic head reads it.
        planes: ``[K]`` int64 ascending: thing category of each plane; all others are zero.
    """

    semantic_logits: Tensor
    rois: RoIs | None
    mask_logits: Tensor
    canvas: Tensor
    planes: Tensor


class IBPP(nn.Module):
    """Mask heads and semantic heads that read each other.

    RoI features have ``channels``, F_sem has ``semantic_channels``; with ``merge_things`` ``H_sem``
    has one logit for all things.
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
        self.num_things = num_things
        self.sampling_ratio = roi.sampling_ratio
        crosses = options.num_iterations > 0 and options.semantics_cross
        num_heads = 1 if options.share_heads else options.num_iterations
        self.mask_heads, self.refined_heads = nn.ModuleList(), nn.ModuleList()
        for k in range(max(num_heads, 1)):
            with named_draws(f"mask_heads.{k}"):
                head = MaskHead(
                    channels,
                    1 if roi.mask_class_agnostic else num_things,
                    channels=roi.mask_channels,
                    num_convs=roi.mask_convs,
                    norm=roi.mask_norm,
                    reads_earlier=options.mask_info_flow and (k > 0 or options.share_heads),
                    num_semantic=num_categories if crosses else 0,
                    semantic_start=options.mask_start,
                )
            self.mask_heads.append(head)
        with named_draws("semantic_predictor"):
            self.semantic_predictor = SemanticPredictor(
                semantic_channels, num_categories, num_merged=num_things if merge_things else 0
            )
        for k in range(num_heads):
            with named_draws(f"refined_heads.{k}"):
                refined = RefinedSemanticHead(
                    semantic_channels,
                    num_planes=num_things if options.canvas_crosses else 0,
                    num_categories=num_categories,
                    num_convs=options.refine_convs,
                    starts_at_zero=options.refine == "residual",
                )
            self.refined_heads.append(refined)
        self.embedding: nn.Conv2d | None = None
        if options.join == "embedding" and options.reads_feature:
            self.embedding = nn.Conv2d(semantic_channels, channels, 1)
            for parameter in self.embedding.parameters():
                nn.init.zeros_(parameter)

    def iterate(
        self,
        feature: Tensor,
        semantic_logits: Tensor,
        inputs: Iterable[tuple[RoIs, Tensor]],
        *,
        canvas_gain: float = 1.0,
    ) -> Iterator[IterationOutput]:
        """``P_sem^(0)``, then iterations 1 to T: eqs. 3 to 6.

        With T = 0 the only output is ``P_sem^(0)`` with the masks of the plain head.

        Args:
            feature: F_sem, ``[B, channels, h, w]``.
            semantic_logits: ``P_sem^(0)``.
            inputs: For each iteration the RoIs, and what :meth:`join_features` returns for them.
                Training has other RoIs in every iteration, inference always the same.
            canvas_gain: Factor on the canvas in [0, 1].
        """
        empty = semantic_logits.new_zeros((len(semantic_logits), 0, *semantic_logits.shape[-2:]))
        no_planes = torch.zeros(0, dtype=torch.int64, device=empty.device)
        if not self.options.num_iterations:
            rois, joined = next(iter(inputs))
            masks = self.predict_masks(1, joined, rois.labels)
            yield IterationOutput(semantic_logits, rois, masks, empty, no_planes)
            return
        no_masks = semantic_logits.new_zeros((0, MASK_SIDE, MASK_SIDE))
        yield IterationOutput(semantic_logits, None, no_masks, empty, no_planes)
        for t, (rois, joined) in enumerate(inputs, start=1):
            projected = self.project_semantics(joined, semantic_logits, rois.boxes_of_images)
            masks = self.predict_masks(t, projected, rois.labels)
            size = (semantic_logits.shape[-2], semantic_logits.shape[-1])
            canvas, planes = self.project_masks(masks, rois, size, canvas_gain)
            semantic_logits = self.refine_semantics(t, feature, canvas, planes, semantic_logits)
            yield IterationOutput(semantic_logits, rois, masks, canvas, planes)

    def predict_semantics(self, feature: Tensor) -> Tensor:
        """Eq. 1: ``P_sem^(0) = H_sem(F_sem)``, ``[B, C, h, w]``."""
        return self.semantic_predictor(feature)  # type: ignore[no-any-return]

    def join_features(
        self, roi_features: Tensor, feature: Tensor, boxes: Sequence[Tensor]
    ) -> Tensor:
        """Eqs. 2 and 4, the part that no iteration changes: ``f_ins + f_sem``.

        f_ins is ``[N, channels, 14, 14]``, and returned as it is if features do not cross.
        """
        if not (self.options.num_iterations and self.options.features_cross):
            return roi_features
        return roi_features + self.pool_feature(feature, boxes, MASK_INPUT_SIDE)

    def pool_feature(self, feature: Tensor, boxes: Sequence[Tensor], side: int) -> Tensor:
        """Eq. 2: ``f_sem = RoIAlign(F_sem)``, ``[N, channels, side, side]``.

        With ``join=embedding`` ``f_sem = E(RoIAlign(F_sem))`` with a 1x1 convolution E. As both are
        linear, this is HTC's ``RoIAlign(E(F_sem))`` without its ReLU, under which a convolution
        that starts at zero would stay there.
        """
        pooled = self._pool(self._to_masks(feature), boxes, side)
        return pooled if self.embedding is None else self.embedding(pooled)

    def project_to_boxes(
        self,
        roi_features: Tensor,
        feature: Tensor,
        semantic_logits: Tensor,
        boxes: Sequence[Tensor],
    ) -> Tensor:
        """Eqs. 2 to 4 for the box heads (``project_to_box``), ``[N, channels + C, side, side]``."""
        side = roi_features.shape[-1]
        joined = roi_features + self.pool_feature(feature, boxes, side)
        return torch.cat([joined, self.pool_semantics(semantic_logits, boxes, side)], dim=1)

    def project_semantics(
        self, joined: Tensor, semantic_logits: Tensor, boxes: Sequence[Tensor]
    ) -> Tensor:
        """Eqs. 3 and 4, semantic to instance: ``concat(f_ins + f_sem, p_sem)``.

        The result is ``[N, channels + C, 14, 14]``, or ``joined`` if semantics do not cross.
        """
        if not self.options.semantics_cross:
            return joined
        pooled = self.pool_semantics(semantic_logits, boxes, MASK_INPUT_SIDE)
        return torch.cat([joined, pooled], dim=1)

    def pool_semantics(self, semantic_logits: Tensor, boxes: Sequence[Tensor], side: int) -> Tensor:
        """Eq. 3: ``p_sem = RoIAlign(P_sem)``, ``[N, C, side, side]``."""
        crossing = self._to_masks(semantic_logits)
        if self.options.project == "softmax":
            crossing = crossing.float().softmax(dim=1)
        return self._pool(crossing, boxes, side)

    def predict_masks(self, iteration: int, projected: Tensor, labels: Tensor) -> Tensor:
        """Eq. 4: ``m^(t) = H~_ins(...)`` at the label's channel, ``[N, 28, 28]`` logits."""
        *before, head = (self._mask_head(t) for t in range(1, iteration + 1))
        earlier: Tensor | None = None
        for other in before if self.options.mask_info_flow else ():
            earlier = other.compute_features(projected, earlier)
        return head(projected, labels, earlier)  # type: ignore[no-any-return]

    def is_written(self, rois: RoIs) -> Tensor:
        """``[N]`` bool: the masks of these RoIs are drawn on the canvas."""
        return (rois.scores >= self.options.canvas_score_thresh) & self.options.canvas_crosses

    def project_masks(
        self, mask_logits: Tensor, rois: RoIs, size: tuple[int, int], gain: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Eq. 5, instance to semantic: ``P_ins^(t) = ROI-Flatten(m^(t))``.

        RoIs below ``canvas_score_thresh`` are left out, in training too: the semantic head learns
        on what it will read.

        Args:
            mask_logits: ``[N, 28, 28]``, image by image.
            rois: Their RoIs.
            size: ``(h, w)`` of the canvas.
            gain: Factor on the canvas.

        Returns:
            Canvas and planes, see :class:`IterationOutput`.
        """
        options = self.options
        is_detached = options.detach in ("ins_to_sem", "both")
        crossing = mask_logits.detach() if is_detached else mask_logits
        probabilities = crossing.float().sigmoid()
        labels, is_written = rois.labels, self.is_written(rois)
        if options.canvas_weight == "score":
            probabilities = probabilities * rois.scores[:, None, None]
        # one row says which categories are there: the host waits for the device once
        present = torch.zeros(self.num_things, device=labels.device).index_add(
            0, labels, is_written.float()
        )
        planes = present.nonzero()[:, 0]
        shape = (len(rois.counts), len(planes), *size)
        if not len(planes):
            return probabilities.new_zeros(shape), planes
        place = torch.searchsorted(planes, labels).clamp(max=len(planes) - 1)
        canvas = flatten_rois(
            probabilities * gain,
            rois.boxes * is_written[:, None],  # boxes without area draw nothing
            place + rois.images * len(planes),  # the planes of one image after those of another
            num_planes=shape[0] * shape[1],
            size=size,
            stride=STRIDE,
            reduce=options.canvas_reduce,
        )
        return canvas.view(shape), planes

    def refine_semantics(
        self,
        iteration: int,
        feature: Tensor,
        canvas: Tensor,
        planes: Tensor,
        semantic_logits: Tensor,
    ) -> Tensor:
        """Eq. 6: ``P_sem^(t) = H~_sem(concat(P_ins^(t), F_sem))``, ``[B, C, h, w]``.

        With ``refine=residual`` the head adds to ``semantic_logits``, which are ``P_sem^(t-1)``.
        """
        head = self.refined_heads[0 if self.options.share_heads else iteration - 1]
        refined: Tensor = head(feature, canvas, planes)
        if self.options.refine == "residual":
            refined += semantic_logits
        return refined

    def _mask_head(self, iteration: int) -> MaskHead:
        return cast(MaskHead, self.mask_heads[0 if self.options.share_heads else iteration - 1])

    def _to_masks(self, semantic: Tensor) -> Tensor:
        """What passes from the semantic branch to the masks, with or without its gradient."""
        is_detached = self.options.detach in ("sem_to_ins", "both")
        return semantic.detach() if is_detached else semantic

    def _pool(self, feature: Tensor, boxes: Sequence[Tensor], side: int) -> Tensor:
        pooled = pool_rois(
            [feature],
            boxes,
            strides=[STRIDE],
            side=side,
            canonical_size_px=1.0,  # there is one level to choose from
            sampling_ratio=self.sampling_ratio,
        )
        return make_convolvable(pooled)
