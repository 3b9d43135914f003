"""Samples to a batch."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

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
    for padded, sample, (h, w) in zip(images, samples, sizes, strict=True):
        padded[:, :h, :w] = sample.image
    return Batch(
        images=images,
        image_sizes=tuple(sizes),
        samples=tuple(
            _padded(sample, image[:, :h, :w], (height, width))
            for sample, image, (h, w) in zip(samples, images, sizes, strict=True)
        ),
    )


def _padded(sample: Sample, image: Tensor, size: tuple[int, int]) -> Sample:
    if sample.target is None:
        return replace(sample, image=image)
    semantic = torch.full(size, IGNORE_INDEX, dtype=torch.uint8)
    height, width = sample.target.semantic.shape
    semantic[:height, :width] = sample.target.semantic
    return replace(sample, image=image, target=replace(sample.target, semantic=semantic))
