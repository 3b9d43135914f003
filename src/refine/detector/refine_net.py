"""The network: one pyramid, a box cascade, and mask and semantic heads that read each other.

Without iterations and cascade it is Panoptic-FPN (Kirillov et al. 2019), the baseline row of the
paper (table 3, first line). Losses are those of detectron2 with two differences, both of the mask
head: targets are soft (:mod:`refine.detector.mask_loss`), and only the label's mask is computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from refine.detector.backbone import Backbone, build_backbone
from refine.detector.box_cascade import BoxCascade, Positives
from refine.detector.box_head import BOX_SIDE
from refine.detector.box_stage import Detections
from refine.detector.ibpp import IBPP, IterationOutput, MaskRoIs
from refine.detector.mask_head import MASK_INPUT_SIDE
from refine.detector.mask_loss import mask_loss
from refine.detector.mask_targets import MaskTargets
from refine.detector.proposals import ProposalNetwork, ProposalOutput
from refine.detector.semantic_head import SemanticTrunk
from refine.detector.semantic_loss import semantic_loss
from refine.detector.total_loss import name_of
from refine.ops.roi_align import pool_rois
from refine.options import AnchorOptions, ModelOptions
from refine.types import Batch, IterationTrace, Observation, RawPrediction

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""Of RGB pixels in 0..255 (torchvision's and timm's weights)."""


@dataclass(frozen=True, slots=True, eq=False)
class _Dense:
    """What the dense part computes once an image.

    Attributes:
        levels: P2 to P6.
        feature: F_sem.
        semantic_logits: P_sem^(0).
        proposals: Of every anchor.
    """

    levels: list[Tensor]
    feature: Tensor
    semantic_logits: Tensor
    proposals: ProposalOutput


class RefineNet(nn.Module):
    """Images to detections with masks and a semantic map.

    ``loss``, ``predict`` and ``trace`` are separate: what comes back never depends on
    ``self.training``.

    Args:
        options: The network.
        anchors: RPN anchors (they belong to the data).
        num_things: Thing categories.
        num_categories: Things and stuff.
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
        self.backbone: Backbone = build_backbone(options.backbone)
        width, semantic = self.backbone.channels, options.semantic
        self.proposals = ProposalNetwork(width, anchors=anchors, options=options.proposals)
        self._boxes_read_semantics = options.ibpp.project_to_box and self.num_iterations > 0
        self.box_cascade = BoxCascade(
            width + (num_categories if self._boxes_read_semantics else 0),
            num_things,
            options=options.roi,
            iou_thresh=options.box_iou_thresh,
        )
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
            batch: With training targets.
            generator: Draws anchors and RoIs; of the CPU.
            step: Of the training, for ``ibpp.canvas_warmup_steps``.

        Returns:
            Scalars ``rpn_objectness``, ``rpn_box``, ``box_class``, ``box_regression``, ``mask``
            and ``semantic``. The number of the stage (from 1) follows those of several box
            stages, that of the iteration follows those of IBPP's masks (from 1) and semantic
            maps (from 0): ``mask_3``, ``semantic_0``.
        """
        targets, options = batch.targets, self.options.proposals
        dense = self._dense(batch)
        losses = self.proposals.loss(
            dense.proposals, [t.boxes for t in targets], generator=generator
        )
        proposals = self.proposals.propose(
            dense.proposals,
            batch.image_sizes,
            pre_nms=options.pre_nms_train,
            post_nms=options.post_nms_train,
        )
        ibpp = self.options.ibpp
        stages = self.box_cascade.train_stages(
            proposals,
            targets,
            pool=partial(self._pool_boxes, dense),
            image_sizes=batch.image_sizes,
            interleaved=self.num_iterations > 0 and ibpp.mask_rois == "interleaved",
            generator=generator,
        )
        for k, stage in enumerate(stages, start=1):
            for kind, value in stage.losses.items():
                losses[name_of(kind, k, is_numbered=len(stages) > 1)] = value
        gain = min(1.0, step / ibpp.canvas_warmup_steps) if ibpp.canvas_warmup_steps else 1.0
        return losses | self._head_losses(dense, batch, [s.positives for s in stages], gain)

    def predict(self, batch: Batch, *, min_score: float = 0.0) -> list[RawPrediction]:
        """Raw predictions of each image; the caller sets eval mode and disables gradients.

        Args:
            batch: Images; targets and truths are not read.
            min_score: Detections below it get no mask, reach no canvas and are not returned.
        """
        return [seen.raw for seen in self.observe(batch, min_score=min_score)]

    def observe(self, batch: Batch, *, min_score: float = 0.0) -> list[Observation]:
        """:meth:`predict`, with the features of the instances."""
        dense, detections = self._detect(batch, min_score)
        return self._observe(batch, dense, detections)

    def observe_boxes(
        self, batch: Batch, boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> list[Observation]:
        """:meth:`observe` with given instances instead of detected ones, to train heads on.

        Args:
            batch: Images.
            boxes: ``[N, 4]`` xyxy network pixels of each image.
            labels: ``[N]`` thing categories of each image.

        Returns:
            One of each image, instances in the order given; their scores are what the box heads
            say of these categories in these boxes.
        """
        dense = self._dense(batch)
        scores = self.box_cascade.score(
            boxes, labels, pool=partial(self._pool_boxes, dense), image_sizes=batch.image_sizes
        )
        given = [Detections(*parts) for parts in zip(boxes, scores, labels, strict=True)]
        return self._observe(batch, dense, given)

    def trace(self, batch: Batch) -> list[list[IterationTrace]]:
        """What each iteration says of each image (eval mode and gradients as in ``predict``).

        Returns:
            For each image, iterations 0 to T.
        """
        dense, detections = self._detect(batch, 0.0)
        features = self._features(dense, detections)
        size = (self.num_things, *dense.semantic_logits.shape[-2:])
        first, masks = detections, dense.semantic_logits.new_zeros((0, 1, 1))
        if self.num_iterations:
            first = [d.above(float("inf")) for d in detections]
        else:
            masks = self._plain_masks(features, detections)
        raws = [self._to_raw(batch, first, masks, dense.semantic_logits)]
        canvases = [dense.semantic_logits.new_zeros((len(detections), *size)).float()]
        for output in self._iterate(dense, detections, features):
            raws.append(self._to_raw(batch, detections, output.mask_logits, output.semantic_logits))
            canvas = torch.zeros_like(canvases[0])
            canvas[:, output.canvas.planes] = output.canvas.values
            canvases.append(canvas)
        return [
            [
                IterationTrace(iteration=t, raw=of_batch[k], canvas=canvas[k])
                for t, (of_batch, canvas) in enumerate(zip(raws, canvases, strict=True))
            ]
            for k in range(len(detections))
        ]

    def normalize(self, batch: Batch) -> Tensor:
        """``[B, 3, H, W]`` float32: ImageNet statistics, zero in the padding."""
        images = (batch.images.float() - self.pixel_mean) / self.pixel_std
        for image, (height, width) in zip(images, batch.image_sizes, strict=True):
            image[:, height:] = 0
            image[:, :, width:] = 0
        return images

    def _dense(self, batch: Batch) -> _Dense:
        images = self.normalize(batch)
        levels = self.backbone(images.contiguous(memory_format=self._memory_format))
        feature = self.semantic_trunk(levels[:4])
        semantic_logits = self.ibpp.predict_semantics(feature)
        return _Dense(levels, feature, semantic_logits, self.proposals(levels, images))

    def _detect(self, batch: Batch, min_score: float) -> tuple[_Dense, list[Detections]]:
        options = self.options.proposals
        dense = self._dense(batch)
        proposals = self.proposals.propose(
            dense.proposals,
            batch.image_sizes,
            pre_nms=options.pre_nms_eval,
            post_nms=options.post_nms_eval,
        )
        detections = self.box_cascade.detect(
            proposals, pool=partial(self._pool_boxes, dense), image_sizes=batch.image_sizes
        )
        return dense, [d.above(min_score) for d in detections]

    def _observe(
        self, batch: Batch, dense: _Dense, detections: Sequence[Detections]
    ) -> list[Observation]:
        features = self._features(dense, detections)
        semantic_logits = dense.semantic_logits
        if self.num_iterations:
            outputs = self._iterate(dense, detections, features)
            semantic_logits = outputs[-1].semantic_logits
            mask_logits = outputs[-1].mask_logits
            if self.options.ibpp.mask_ensemble == "mean":
                mean = torch.stack([o.mask_logits.float().sigmoid() for o in outputs]).mean(dim=0)
                mask_logits = mean.logit(eps=1e-6)
        else:
            mask_logits = self._plain_masks(features, detections)
        raws = self._to_raw(batch, detections, mask_logits, semantic_logits)
        parts = torch.split(features, [len(d.boxes) for d in detections])
        return [Observation(raw, part) for raw, part in zip(raws, parts, strict=True)]

    def _features(self, dense: _Dense, detections: Sequence[Detections]) -> Tensor:
        boxes = [d.boxes for d in detections]
        pooled = self._pool(dense, boxes, MASK_INPUT_SIDE)
        if not self.num_iterations:
            return pooled
        return self.ibpp.join_features(pooled, dense.feature, boxes)

    def _iterate(
        self, dense: _Dense, detections: Sequence[Detections], features: Tensor
    ) -> list[IterationOutput]:
        """Iterations 1 to T on fixed boxes, whose features do not change."""
        rois = MaskRoIs(
            [d.boxes for d in detections],
            torch.cat([d.labels for d in detections]),
            torch.cat([d.scores for d in detections]),
        )
        outputs: list[IterationOutput] = []
        for t in range(1, self.num_iterations + 1):
            before = outputs[-1].semantic_logits if outputs else dense.semantic_logits
            outputs.append(
                self.ibpp.iterate(
                    t, features, feature=dense.feature, semantic_logits=before, rois=rois
                )
            )
        return outputs

    def _head_losses(
        self,
        dense: _Dense,
        batch: Batch,
        positives: Sequence[Sequence[Positives]],
        canvas_gain: float,
    ) -> dict[str, Tensor]:
        """Mask and semantic losses of every iteration, or of the plain heads."""
        targets = batch.targets
        mask_targets = MaskTargets(targets)
        semantic_targets = self.ibpp.semantic_predictor.merge_targets(
            torch.stack([t.semantic for t in targets])
        )
        if not self.num_iterations:
            pooled = self._pool(dense, [p.boxes for p in positives[0]], MASK_INPUT_SIDE)
            logits = self.ibpp.predict_plain_masks(
                pooled, torch.cat([p.labels for p in positives[0]])
            )
            return {
                "mask": mask_loss(logits, mask_targets.compute(positives[0])),
                "semantic": semantic_loss(dense.semantic_logits, semantic_targets),
            }
        losses = {"semantic_0": semantic_loss(dense.semantic_logits, semantic_targets)}
        semantic_logits = dense.semantic_logits
        for t in range(1, self.num_iterations + 1):
            of_stage = positives[min(t, len(positives)) - 1]
            output = self._train_iteration(t, dense, semantic_logits, of_stage, canvas_gain)
            semantic_logits = output.semantic_logits
            losses[f"mask_{t}"] = mask_loss(output.mask_logits, mask_targets.compute(of_stage))
            losses[f"semantic_{t}"] = semantic_loss(semantic_logits, semantic_targets)
        return losses

    def _train_iteration(
        self,
        iteration: int,
        dense: _Dense,
        semantic_logits: Tensor,
        positives: Sequence[Positives],
        canvas_gain: float,
    ) -> IterationOutput:
        rois = MaskRoIs(
            [p.boxes for p in positives],
            torch.cat([p.labels for p in positives]),
            torch.cat([p.scores for p in positives]),
        )
        pooled = self._pool(dense, rois.boxes, MASK_INPUT_SIDE)
        return self.ibpp.iterate(
            iteration,
            self.ibpp.join_features(pooled, dense.feature, rois.boxes),
            feature=dense.feature,
            semantic_logits=semantic_logits,
            rois=rois,
            canvas_gain=canvas_gain,
        )

    def _plain_masks(self, features: Tensor, detections: Sequence[Detections]) -> Tensor:
        return self.ibpp.predict_plain_masks(features, torch.cat([d.labels for d in detections]))

    def _pool_boxes(self, dense: _Dense, boxes: Sequence[Tensor]) -> Tensor:
        """RoI features of the box heads."""
        pooled = self._pool(dense, boxes, BOX_SIDE)
        if not self._boxes_read_semantics:
            return pooled
        return self.ibpp.project_to_boxes(pooled, dense.feature, dense.semantic_logits, boxes)

    def _pool(self, dense: _Dense, boxes: Sequence[Tensor], side: int) -> Tensor:
        return pool_rois(
            dense.levels[:4],
            boxes,
            strides=self.backbone.strides[:4],
            side=side,
            canonical_size_px=self.options.roi.canonical_size_px,
            sampling_ratio=self.options.roi.sampling_ratio,
        )

    def _to_raw(
        self,
        batch: Batch,
        detections: Sequence[Detections],
        mask_logits: Tensor,
        semantic_logits: Tensor,
    ) -> list[RawPrediction]:
        masks = torch.split(mask_logits.float(), [len(d.boxes) for d in detections])
        images = zip(
            detections,
            masks,
            semantic_logits.float(),
            batch.image_sizes,
            batch.samples,
            strict=True,
        )
        return [
            RawPrediction(
                boxes=d.boxes,
                scores=d.scores,
                labels=d.labels,
                mask_logits=m,
                semantic_logits=semantic,
                image_size=size,
                original_size=sample.original_size,
            )
            for d, m, semantic, size, sample in images
        ]
