"""Networks with random weights, and random batches like those of real data, kept in memory."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from benchmark.scenes import NUM_CATEGORIES, NUM_THINGS
from refine.config import compose
from refine.config.settings import TrainSettings
from refine.detector.refine_net import RefineNet
from refine.ops.outlines import encode_mask
from refine.toy.objects import THINGS, TOY_CATEGORIES
from refine.types import Batch, MaskCrop, Sample, TrainingTarget


def read_settings(overrides: Sequence[str], *, detections: int = 100) -> TrainSettings:
    """Settings of an experiment; scores limit nothing: as many detections, all on the canvas."""
    limits = [f"{key}=0.0" for key in ("model.roi.score_thresh", "model.ibpp.canvas_score_thresh")]
    limits.append(f"model.roi.max_detections={detections}")
    settings: TrainSettings = compose("train", [*overrides, *limits])
    return settings


Counts = tuple[int, int]
"""Numbers of things, and of things and stuff."""
COCO: Counts = (NUM_THINGS, NUM_CATEGORIES)
TOY: Counts = (len(THINGS), len(TOY_CATEGORIES))


def build_network(settings: TrainSettings, counts: Counts = COCO) -> RefineNet:
    """The network for so many categories, with activations of ordinary size."""
    torch.manual_seed(0)
    network = RefineNet(
        settings.model,
        anchors=settings.data.anchors,
        num_things=counts[0],
        num_categories=counts[1],
    )
    for name, module in network.backbone.named_modules():
        # frozen statistics of no data: activations of a deep network would explode
        if isinstance(module, FrozenBatchNorm2d) and name.endswith(("bn2", "bn3")):
            module.weight.fill_(0.2)
        elif isinstance(module, nn.GroupNorm) and name.endswith("bn3"):
            nn.init.constant_(module.weight, 0.2)
    return network


def make_batch(
    size: tuple[int, int],
    *,
    images: int = 1,
    instances: int = 8,
    seed: int = 0,
    counts: Counts = COCO,
) -> Batch:
    """Random images of ``(height, width)``, padded to multiples of 32, with elliptic instances."""
    rng = np.random.default_rng(seed)
    height, width = (-(-side // 32) * 32 for side in size)
    pixels = torch.zeros((images, height, width, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    samples = []
    for image in pixels:
        view = image[:, : size[0], : size[1]]
        view.copy_(torch.from_numpy(rng.integers(0, 256, (3, *size), dtype=np.uint8)))
        samples.append(
            Sample(
                image=view,
                image_id=1,
                file_name="random",
                original_size=size,
                target=_make_target(rng, size, (height, width), instances, counts),
            )
        )
    return Batch(images=pixels, image_sizes=(size,) * images, samples=tuple(samples))


def _make_target(
    rng: np.random.Generator,
    size: tuple[int, int],
    padded: tuple[int, int],
    instances: int,
    counts: Counts,
) -> TrainingTarget:
    height, width = size
    corners, masks = [], []
    for _ in range(instances):
        # sides between a sixteenth and nine tenths of the image, small ones more often
        h, w = (int(n * np.exp(rng.uniform(np.log(0.06), np.log(0.9)))) + 2 for n in size)
        y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
        rows, columns = np.linspace(-1, 1, h)[:, None], np.linspace(-1, 1, w)
        masks.append(encode_mask(MaskCrop(y, x, rows**2 + columns**2 <= 1)))
        corners.append([x, y, x + w, y + h])
    cells = rng.integers(0, counts[1], (6, 8)).astype(np.uint8)
    semantic = np.full(padded, 255, np.uint8)
    rows, columns = (np.arange(n) * m // n for n, m in zip(size, cells.shape, strict=True))
    semantic[:height, :width] = cells[rows[:, None], columns]
    return TrainingTarget(
        semantic=torch.from_numpy(semantic),
        boxes=torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
        labels=torch.from_numpy(rng.integers(0, counts[0], instances)),
        masks=tuple(masks),
    )
