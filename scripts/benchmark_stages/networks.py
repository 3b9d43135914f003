"""Networks with random weights, and an image of random pixels for them."""

import numpy as np
import torch

from refine.config import compose
from refine.config.instantiate import to_options
from refine.detector.refine_net import RefineNet
from refine.ops.outlines import encode_mask
from refine.options import DataOptions, ModelOptions
from refine.types import Batch, MaskCrop, Sample, TrainingTarget

THINGS, CATEGORIES = 80, 133


def build_network(experiment: str, overrides: tuple[str, ...], *, detections: int) -> RefineNet:
    """The network of an experiment, giving this number of detections in every image."""
    limits = ("model.roi.score_thresh=0.0", f"model.roi.max_detections={detections}")
    cfg = compose("train", [f"experiment={experiment}", *limits, *overrides])
    torch.manual_seed(0)
    return RefineNet(
        to_options(cfg.model, ModelOptions),
        anchors=to_options(cfg.data, DataOptions).anchors,
        num_things=THINGS,
        num_categories=CATEGORIES,
    )


def make_batch(size: tuple[int, int], *, num_instances: int = 8) -> Batch:
    """One random image with square instances."""
    rng = np.random.default_rng(0)
    height, width = size
    side = height // 5
    corners = rng.integers(0, [width - side, height - side], (num_instances, 2))
    boxes = np.concatenate([corners, corners + side], axis=1).astype(np.float32)
    mask = np.ones((side, side), bool)
    target = TrainingTarget(
        semantic=torch.from_numpy(rng.integers(0, CATEGORIES, size).astype(np.uint8)),
        boxes=torch.from_numpy(boxes),
        labels=torch.from_numpy(rng.integers(0, THINGS, num_instances)),
        masks=tuple(encode_mask(MaskCrop(int(y), int(x), mask)) for x, y in corners),
    )
    image = torch.from_numpy(rng.integers(0, 256, (3, *size)).astype(np.uint8))
    sample = Sample(image=image, image_id=1, file_name="random", original_size=size, target=target)
    return Batch(images=image[None], image_sizes=(size,), samples=(sample,))
