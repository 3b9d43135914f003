import numpy as np
import pytest
import torch

from refine.data.collate import collate
from refine.ops.outlines import encode_mask
from refine.types import GroundTruth, MaskCrop, Sample, TrainingTarget


def _sample(height, width, *, training=True, **fields):
    target = TrainingTarget(
        semantic=torch.randint(0, 5, (height, width), dtype=torch.uint8),
        boxes=torch.tensor([[0.0, 0.0, 1.0, 1.0]]),
        labels=torch.tensor([0]),
        masks=(encode_mask(MaskCrop(0, 0, np.ones((1, 1), bool))),),
    )
    return Sample(
        image=torch.randint(1, 256, (3, height, width), dtype=torch.uint8),
        image_id=height,
        file_name="a.jpg",
        original_size=(height, width),
        target=target if training else None,
        **fields,
    )


SIZES = [(40, 64), (33, 100), (1, 1)]


@pytest.mark.parametrize("sizes", [SIZES, [(32, 64)], [(1, 1)]])
def test_images_and_targets_are_padded_to_a_common_multiple(sizes):
    samples = [_sample(*size) for size in sizes]
    batch = collate(samples)
    shape = {(40, 64): (64, 128), (32, 64): (32, 64), (1, 1): (32, 32)}[sizes[0]]
    assert batch.images.shape == (len(sizes), 3, *shape)
    assert batch.images.dtype == torch.uint8
    assert batch.image_sizes == tuple(sizes)
    for k, (before, after, (h, w)) in enumerate(zip(samples, batch.samples, sizes, strict=True)):
        for padded, whole, filling in (
            (batch.images[k], before.image, 0),
            (after.target.semantic, before.target.semantic, 255),
        ):
            assert padded.shape[-2:] == shape
            assert torch.equal(padded[..., :h, :w], whole)
            assert (padded[..., h:, :] == filling).all()
            assert (padded[..., w:] == filling).all()
        # the rest travels unchanged
        assert before.target.semantic.shape == (h, w)
        assert torch.equal(after.image, before.image)
        assert torch.equal(after.target.boxes, before.target.boxes)
        assert after.target.masks == before.target.masks
        assert (after.image_id, after.original_size) == (before.image_id, before.original_size)


def test_dense_memory_is_four_bytes_a_padded_pixel():
    batch = collate([_sample(*size) for size in SIZES])
    stored = batch.images.nbytes + sum(t.semantic.nbytes for t in batch.targets)
    assert stored == 4 * 3 * 64 * 128
    storages = {t.semantic.untyped_storage().nbytes() for t in batch.targets}
    assert storages == {64 * 128}
    batch.images[1] = 7  # the samples' images are views of the batch
    assert (batch.samples[1].image == 7).all()


def test_evaluation_samples_keep_truth_and_padding_mark():
    truth = GroundTruth(segment_map=np.zeros((40, 64), np.int32), segments=())
    batch = collate([_sample(40, 64, training=False, truth=truth, is_padding=True)])
    assert batch.samples[0].truth is truth
    assert batch.samples[0].is_padding
    with pytest.raises(ValueError, match="no training targets"):
        _ = batch.targets
