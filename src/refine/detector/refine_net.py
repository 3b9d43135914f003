"""The network: one pyramid, a box cascade, and mask and semantic heads that read each other.

Without iterations and cascade it is Panoptic-FPN (Kirillov et al. 2019), the baseline row of the
paper (table 3, first line). Losses are those of detectron2 with two differences, both in the mask
head: targets are soft (:func:`refine.detector.losses.mask_loss`), and only the label's mask is
computed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from refine.detector.backbone import Backbone, build_backbone
from refine.detector.blocks import named_draws
from refine.detector.box_cascade import BoxCascade
from refine.detector.box_stage import BOX_SIDE
from refine.detector.ibpp import IBPP, IterationOutput
from refine.detector.losses import mask_loss, name_of, semantic_loss
from refine.detector.mask_head import MASK_INPUT_SIDE, MASK_SIDE
from refine.detector.proposals import ProposalNetwork, ProposalOutput
from refine.detector.rois import RoIs, Truth
from refine.detector.semantic_head import SemanticTrunk
from refine.detector.views import merge_detections, to_batch
from refine.ops.boxes import Chosen, limits_of
from refine.ops.conversion import make_convolvable, make_poolable
from refine.ops.mask_targets import roi_mask_targets, sum_areas
from refine.ops.roi_align import pool_rois
from refine.options import AnchorOptions, ModelOptions
from refine.types import Batch, IterationTrace, Observation, RawPrediction, Sample, View

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""Mean and standard deviation of RGB pixels in 0..255 (torchvision's and timm's weights)."""


@dataclass(frozen=True, slots=True, eq=False)
class _Dense:
    """Everything computed once per image, before any RoI."""

    levels: list[Tensor]  # P2 to P5, to be pooled
    feature: Tensor  # F_sem
    poolable_feature: Tensor  # the same, to be pooled
    semantic_logits: Tensor  # P_sem^(0)
    anchors: ProposalOutput


class RefineNet(nn.Module):
    """Images to detections with masks and a semantic map.

    ``loss``, ``predict`` and ``trace`` are separate: what comes back never depends on
    ``self.training``. The anchors of the RPN belong to the data; categories are things, then stuff.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        options: ModelOptions,
        *,
        anchors: AnchorOptions,
        num_things: int,
        num_categories: int,
    ) -> None:
        super().__init__()
        self.options = options
        self.num_things = num_things
        self.num_iterations = options.ibpp.num_iterations
        with named_draws("backbone"):
            self.backbone: Backbone = build_backbone(options.backbone)
        width, semantic = self.backbone.channels, options.semantic
        with named_draws("proposals"):
            self.proposals = ProposalNetwork(width, anchors=anchors, options=options.proposals)
        self._boxes_read_semantics = options.ibpp.project_to_box and self.num_iterations > 0
        self.box_cascade = BoxCascade(
            width + (num_categories if self._boxes_read_semantics else 0),
            num_things,
            options=options.roi,
            iou_thresh=options.box_iou_thresh,
        )
        with named_draws("semantic_trunk"):
            self.semantic_trunk = SemanticTrunk(
                width,
                semantic.channels,
                self.backbone.strides[:4],
                embedding=semantic.embedding,
                dcn=semantic.dcn,
            )
        self.ibpp = IBPP(
            options.ibpp,
            roi=options.roi,
            channels=width,
            semantic_channels=semantic.channels,
            num_things=num_things,
            num_categories=num_categories,
            merge_things=semantic.merge_things,
        )
        self.register_buffer("pixel_mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("pixel_std", torch.tensor(IMAGENET_STD).view(3, 1, 1))
        self._memory_format = (
            torch.channels_last if options.channels_last else torch.contiguous_format
        )
        self.to(memory_format=self._memory_format)

    def loss(self, batch: Batch, *, generator: torch.Generator, step: int = 0) -> dict[str, Tensor]:
        """Unweighted losses of a batch.

        Args:
            batch: Images with training targets.
            generator: Generator of the sampled anchors and RoIs; of the CPU.
            step: Step of the training, for ``ibpp.canvas_warmup_steps``.

        Returns:
            Scalars ``rpn_objectness``, ``rpn_box``, ``box_class``, ``box_regression``, ``mask``
            and ``semantic``; their names end in the number of the box stage (from 1) where there
            are several, and with IBPP in that of the iteration: ``mask_3``, ``semantic_0``.
        """
        targets, ibpp, count = batch.targets, self.options.ibpp, self.num_iterations
        dense, truth = self._compute_dense(batch), Truth.of(targets)
        outlines = [coded for t in targets for coded in t.masks]
        areas = sum_areas(outlines, batch.images.device)  # while a GPU has the backbone to do
        losses = self.proposals.loss(dense.anchors, truth, generator=generator)
        box_losses, rois = self.box_cascade.loss(
            self._propose(batch, dense, training=True),
            truth,
            pool=partial(self._pool_boxes, dense),
            image_sizes=batch.image_sizes,
            ibpp=ibpp,
            generator=generator,
        )
        losses |= box_losses
        semantic_targets = self.ibpp.semantic_predictor.merge_targets(
            torch.stack([t.semantic for t in targets])
        )
        if ibpp.trained_rois == "interleaved" and not count:  # one mask head for all stages
            rois = [RoIs.join(rois)]
        gain = min(1.0, step / ibpp.canvas_warmup_steps) if ibpp.canvas_warmup_steps else 1.0
        iterations = self.ibpp.iterate(
            dense.feature,
            dense.semantic_logits,
            self._pool_in_turn(dense, rois),
            canvas_gain=gain,
        )
        for t, output in enumerate(iterations):
            if output.rois:
                is_true = output.rois.is_true
                chosen = output.rois.matched.masked_fill(~is_true, len(outlines))
                mask_targets = roi_mask_targets(areas, chosen, output.rois.boxes, MASK_SIDE)
                losses[name_of("mask", t, is_numbered=count > 0)] = mask_loss(
                    output.mask_logits, mask_targets, is_true
                )
            losses[name_of("semantic", t, is_numbered=count > 0)] = semantic_loss(
                output.semantic_logits, semantic_targets
            )
        return losses

    def predict(self, batch: Batch, *, min_score: float = 0.0) -> list[RawPrediction]:
        """Raw prediction of each image; the caller sets eval mode and disables gradients.

        Args:
            batch: Images; targets and truths are not read.
            min_score: Least score of detections; weaker ones get no mask, reach no canvas and are
                not returned.
        """
        return [seen.raw for seen in self.observe(batch, min_score=min_score)]

    def observe(self, batch: Batch, *, min_score: float = 0.0) -> list[Observation]:
        """:meth:`predict`, with the features of the instances."""
        dense = self._compute_dense(batch)
        return self._observe(batch, dense, self._detect(batch, dense, min_score))

    def observe_views(
        self, views: Sequence[View], sample: Sample, *, min_score: float = 0.0
    ) -> list[Observation]:
        """:meth:`observe` of one photo in several views, with the detections of all of them.

        Args:
            views: The photo at other sizes, or mirrored.
            sample: The photo.
            min_score: Least score of detections.
        """
        batches = [to_batch(view, sample, self.pixel_mean.device) for view in views]
        frames = [
            (b.image_sizes[0], view.is_flipped) for b, view in zip(batches, views, strict=True)
        ]
        dense = [self._compute_dense(batch) for batch in batches]
        pairs = zip(batches, dense, strict=True)
        found = [self._detect(batch, of_view, min_score) for batch, of_view in pairs]
        merged = merge_detections(found, frames, self.options.roi)
        parts = zip(batches, dense, merged, strict=True)
        return [self._observe(batch, of_view, rois)[0] for batch, of_view, rois in parts]

    def observe_boxes(
        self, batch: Batch, boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> list[Observation]:
        """:meth:`observe` with given instances instead of detected ones, to train heads on.

        Args:
            batch: Images.
            boxes: ``[N, 4]`` xyxy network pixels of each image.
            labels: ``[N]`` thing categories, whose scores in these boxes the box heads compute.
        """
        dense = self._compute_dense(batch)
        return self._observe(batch, dense, self._score(batch, dense, boxes, labels))

    def trace(
        self, batch: Batch, given: tuple[Sequence[Tensor], Sequence[Tensor]] | None = None
    ) -> list[list[IterationTrace]]:
        """Predictions of each image in iterations 0 to T (mode and gradients as in ``predict``).

        Args:
            batch: Images.
            given: Boxes and labels as in :meth:`observe_boxes`; by default those detected.
        """
        dense = self._compute_dense(batch)
        if given is None:
            detections = self._detect(batch, dense, min_score=0.0)
        else:
            detections = self._score(batch, dense, *given)
        none = detections.select(Chosen(detections.labels[:0], [0] * len(batch.samples)))
        traces: list[list[IterationTrace]] = [[] for _ in batch.samples]
        iterations = self._iterate_fixed(dense, detections, self._pool_masks(dense, detections))
        for output in iterations:
            masks, semantic_logits = output.mask_logits, output.semantic_logits
            raws = self._to_raw(batch, output.rois or none, masks, semantic_logits)
            size = (len(raws), self.num_things, *semantic_logits.shape[-2:])
            canvas = torch.zeros(size, device=semantic_logits.device)
            canvas[:, output.planes] = output.canvas.float()
            for trace, raw, of_image in zip(traces, raws, canvas, strict=True):
                trace.append(IterationTrace(raw=raw, canvas=of_image))
        return traces

    @torch.no_grad()
    def measure_inputs(self, batch: Batch) -> dict[str, tuple[float, float]]:
        """Mean and root mean square of what the heads of the last iteration add and concatenate.

        ``f_ins``, ``f_sem`` and ``p_sem`` of the detections in some images, ``F_sem``, and
        ``canvas`` where it has planes. What does not cross, or is empty, is left out.
        """
        options, dense = self.options.ibpp, self._compute_dense(batch)
        rois = self._detect(batch, dense, min_score=0.0)
        boxes = rois.boxes_of_images
        *_, before, last = self._iterate_fixed(dense, rois, self._pool_masks(dense, rois))
        logits = before.semantic_logits
        sources = {"f_ins": self._pool(dense, boxes, MASK_INPUT_SIDE), "F_sem": dense.feature}
        if options.features_cross:
            sources["f_sem"] = self.ibpp.pool_feature(dense.feature, boxes, MASK_INPUT_SIDE)
        if options.semantics_cross:
            sources["p_sem"] = self.ibpp.pool_semantics(logits, boxes, MASK_INPUT_SIDE)
        sources["canvas"] = last.canvas
        wide = {name: x.double() for name, x in sources.items() if x.numel()}
        return {n: (float(x.mean()), float(x.square().mean().sqrt())) for n, x in wide.items()}

    def normalize(self, batch: Batch) -> Tensor:
        """``[B, 3, H, W]`` float32 pixels of mean 0 and deviation 1, zero in the padding."""
        images = (batch.images.float() - self.pixel_mean) / self.pixel_std
        corners = limits_of(batch.image_sizes, images.device)[:, 2:, None]
        across, down = (torch.arange(n, device=images.device) for n in images.shape[:1:-1])
        beyond_x, beyond_y = across >= corners[:, 0], down >= corners[:, 1]
        return images.masked_fill_((beyond_y[:, :, None] | beyond_x[:, None])[:, None], 0)

    def _compute_dense(self, batch: Batch) -> _Dense:
        images = self.normalize(batch)
        levels = self.backbone(images.contiguous(memory_format=self._memory_format))
        feature = self.semantic_trunk(levels[:4])
        semantic_logits = self.ibpp.predict_semantics(feature)
        anchors = self.proposals(levels, images)
        crosses = self.num_iterations > 0 and self.options.ibpp.features_cross
        poolable = make_poolable(feature) if crosses or self._boxes_read_semantics else feature
        levels = [make_poolable(level) for level in levels[:4]]
        return _Dense(levels, feature, poolable, semantic_logits, anchors)

    def _propose(self, batch: Batch, dense: _Dense, *, training: bool) -> list[Tensor]:
        options = self.options.proposals
        return self.proposals.propose(
            dense.anchors,
            batch.image_sizes,
            pre_nms=options.pre_nms_train if training else options.pre_nms_eval,
            post_nms=options.post_nms_train if training else options.post_nms_eval,
        )

    def _detect(self, batch: Batch, dense: _Dense, min_score: float) -> RoIs:
        detections = self.box_cascade.detect(
            self._propose(batch, dense, training=False),
            pool=partial(self._pool_boxes, dense),
            image_sizes=batch.image_sizes,
        )
        return detections.select(detections.where(detections.scores >= min_score))

    def _score(
        self, batch: Batch, dense: _Dense, boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> RoIs:
        """Given instances with the scores of the box heads."""
        return self.box_cascade.score(
            boxes, labels, pool=partial(self._pool_boxes, dense), image_sizes=batch.image_sizes
        )

    def _observe(self, batch: Batch, dense: _Dense, rois: RoIs) -> list[Observation]:
        features = self._pool_masks(dense, rois)
        is_last = self.options.ibpp.mask_ensemble == "last"
        outputs = list(self._iterate_fixed(dense, rois, features, wants_last=is_last))
        mask_logits = outputs[-1].mask_logits
        if self.num_iterations and self.options.ibpp.mask_ensemble == "mean":
            masks = torch.stack([o.mask_logits.float().sigmoid() for o in outputs[1:]])
            mask_logits = masks.mean(dim=0).logit(eps=1e-6)
        raws = self._to_raw(batch, rois, mask_logits, outputs[-1].semantic_logits)
        parts = torch.split(features.float(), rois.counts)
        return [Observation(raw, part) for raw, part in zip(raws, parts, strict=True)]

    def _iterate_fixed(
        self, dense: _Dense, rois: RoIs, features: Tensor, *, wants_last: bool = False
    ) -> Iterator[IterationOutput]:
        """All iterations on the same RoIs, whose features do not change.

        If only the last masks are wanted, earlier ones that no canvas shows are left out.
        """
        before = (rois, features)
        if wants_last and self.num_iterations > 1:
            shown = rois.where(self.ibpp.is_written(rois))
            before = (rois.select(shown), features[shown.index])
        inputs = [before] * (self.num_iterations - 1) + [(rois, features)]
        return self.ibpp.iterate(dense.feature, dense.semantic_logits, inputs)

    def _pool_in_turn(self, dense: _Dense, rois: Sequence[RoIs]) -> Iterator[tuple[RoIs, Tensor]]:
        """RoIs of every iteration and their features: of box stage t, or else of the last one."""
        for t in range(max(self.num_iterations, 1)):
            if t < len(rois):
                inputs = (rois[t], self._pool_masks(dense, rois[t]))
            yield inputs

    def _pool_masks(self, dense: _Dense, rois: RoIs) -> Tensor:
        """RoI features of the mask heads, ``f_ins + f_sem``."""
        boxes = rois.boxes_of_images
        pooled = make_convolvable(self._pool(dense, boxes, MASK_INPUT_SIDE))
        return self.ibpp.join_features(pooled, dense.poolable_feature, boxes)

    def _pool_boxes(self, dense: _Dense, boxes: Sequence[Tensor]) -> Tensor:
        """RoI features of the box heads."""
        pooled = self._pool(dense, boxes, BOX_SIDE)
        if not self._boxes_read_semantics:
            return pooled
        return self.ibpp.project_to_boxes(
            pooled, dense.poolable_feature, dense.semantic_logits, boxes
        )

    def _pool(self, dense: _Dense, boxes: Sequence[Tensor], side: int) -> Tensor:
        return pool_rois(
            dense.levels,
            boxes,
            strides=self.backbone.strides[:4],
            side=side,
            canonical_size_px=self.options.roi.canonical_size_px,
            sampling_ratio=self.options.roi.sampling_ratio,
        )

    def _to_raw(
        self, batch: Batch, rois: RoIs, mask_logits: Tensor, semantic_logits: Tensor
    ) -> list[RawPrediction]:
        of_rois = (rois.boxes, rois.scores, rois.labels, mask_logits.float())
        parts = (torch.split(part, rois.counts) for part in of_rois)
        images = zip(*parts, semantic_logits.float(), batch.image_sizes, batch.samples, strict=True)
        return [
            RawPrediction(
                boxes=boxes,
                scores=scores,
                labels=labels,
                mask_logits=masks,
                semantic_logits=semantic,
                image_size=size,
                original_size=sample.original_size,
            )
            for boxes, scores, labels, masks, semantic, size, sample in images
        ]
