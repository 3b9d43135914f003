"""Samples to a batch."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from refine.types import IGNORE_INDEX, Batch, Sample

SIZE_MULTIPLE = 32
"""Stride of the coarsest level that the top-down pathway doubles (P5): no level has odd sizes."""


def collate(samples: Sequence[Sample]) -> Batch:
    """Pad images right and below with 0, and semantic targets with 255, to a common size.

    The images of the batch are channels last in memory as the samples' are (copying is eight times
    as fast, and convolutions want it so). Dense tensors take 4 bytes per padded pixel (3 in
    evaluation). There has to be at least one sample.
    """
    sizes = [(s.image.shape[1], s.image.shape[2]) for s in samples]
    height, width = (
        -(-max(lengths) // SIZE_MULTIPLE) * SIZE_MULTIPLE for lengths in zip(*sizes, strict=True)
    )
    images = torch.zeros((len(samples), height, width, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    padded_samples = []
    for image, sample, (h, w) in zip(images, samples, sizes, strict=True):
        image[:, :h, :w] = sample.image
        target = sample.target
        if target is not None:
            semantic = torch.full((height, width), IGNORE_INDEX, dtype=torch.uint8)
            semantic[:h, :w] = target.semantic
            target = replace(target, semantic=semantic)
        padded_samples.append(replace(sample, image=image[:, :h, :w], target=target))
    return Batch(images=images, image_sizes=tuple(sizes), samples=tuple(padded_samples))
