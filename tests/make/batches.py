"""Small random batches and networks for tests of the model."""

from dataclasses import replace

import numpy as np
import torch

from make.scenes import raw_of
from refine.detector.refine_net import RefineNet
from refine.ops.outlines import encode_mask
from refine.options import (
    AnchorOptions,
    BackboneOptions,
    IBPPOptions,
    ModelOptions,
    ProposalOptions,
    RoIOptions,
    SemanticOptions,
)
from refine.types import Batch, MaskCrop, Observation, Sample, TrainingTarget

NUM_THINGS = 3
NUM_CATEGORIES = 5


def tiny_options(
    *, name="r18", norm="gn", frozen_stages=0, iterations=0, cascade=None, **ibpp
) -> ModelOptions:
    """Without ``cascade`` there is one exactly if there are iterations."""
    return ModelOptions(
        backbone=BackboneOptions(
            name=name, norm=norm, fpn_channels=32, frozen_stages=frozen_stages
        ),
        proposals=ProposalOptions(post_nms_train=50, post_nms_eval=50, samples_per_image=64),
        roi=RoIOptions(
            samples_per_image=16,
            max_detections=20,
            box_fc_channels=32,
            mask_channels=32,
            mask_convs=1,
            cascade=iterations > 0 if cascade is None else cascade,
        ),
        semantic=SemanticOptions(channels=32),
        ibpp=IBPPOptions(num_iterations=iterations, **ibpp),
    )


def tiny_network(*, sections=None, **kwargs) -> RefineNet:
    return RefineNet(
        replace(tiny_options(**kwargs), **(sections or {})),
        anchors=AnchorOptions(sizes_px=[8, 16, 32, 64, 128]),
        num_things=NUM_THINGS,
        num_categories=NUM_CATEGORIES,
    )


def make_target(boxes, labels, *, size=(64, 96), pairs=None) -> TrainingTarget:
    """Instances without outlines on an image of category 0."""
    return TrainingTarget(
        semantic=torch.zeros(size, dtype=torch.uint8),
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        masks=(),
        pairs=None if pairs is None else torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2),
    )


def make_observation(boxes, labels, scores=None, *, width=2, shade=0.0) -> Observation:
    """Full masks in the boxes, on an image of 64 x 64; ``shade`` is the value of all features."""
    count = len(boxes)
    raw = raw_of(
        boxes,
        torch.linspace(0.9, 0.5, count).tolist() if scores is None else scores,
        labels=labels,
        semantic=torch.zeros(NUM_CATEGORIES, 16, 16),
        size=(64, 64),
        original=(128, 128),
    )
    return Observation(raw, torch.full((count, width, 14, 14), shade))


def fake_sample(rng, *, num_instances=2, size=(64, 96), void=False) -> Sample:
    height, width = size
    boxes, masks = [], []
    for _ in range(num_instances):
        side = int(rng.integers(10, 30))
        y, x = int(rng.integers(0, height - side)), int(rng.integers(0, width - side))
        boxes.append([x, y, x + side, y + side])
        masks.append(encode_mask(MaskCrop(y, x, np.ones((side, side), dtype=bool))))
    semantic = rng.integers(0, NUM_CATEGORIES, size).astype(np.uint8)
    target = TrainingTarget(
        semantic=torch.from_numpy(np.full_like(semantic, 255) if void else semantic),
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.from_numpy(rng.integers(0, NUM_THINGS, num_instances)),
        masks=tuple(masks),
    )
    image = torch.from_numpy(rng.integers(0, 256, (3, *size)).astype(np.uint8))
    return Sample(image=image, image_id=1, file_name="fake.jpg", original_size=size, target=target)


def fake_batch(samples) -> Batch:
    """Samples of one size, a multiple of 32."""
    sizes = tuple((s.image.shape[1], s.image.shape[2]) for s in samples)
    return Batch(
        images=torch.stack([s.image for s in samples]), image_sizes=sizes, samples=tuple(samples)
    )
