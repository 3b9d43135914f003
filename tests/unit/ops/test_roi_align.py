import pytest
import torch
from torchvision.ops import roi_align

from refine.ops.roi_align import pool_rois

STRIDES = (4, 8, 16, 32)


def _pool(features, boxes, **kwargs):
    return pool_rois(
        features, boxes, strides=STRIDES, side=7, canonical_size_px=224, sampling_ratio=2, **kwargs
    )


def test_each_box_is_pooled_from_its_image_and_level():
    features = [torch.randn(2, 3, 512 // s, 512 // s) for s in STRIDES]
    boxes = [
        torch.tensor([[8.0, 8, 60, 50], [0, 0, 300, 300]]),
        torch.tensor([[10.0, 5, 160, 130]]),
    ]
    pooled = _pool(features, boxes)
    for row, (image, level, box) in enumerate(
        [(0, 0, boxes[0][0]), (0, 2, boxes[0][1]), (1, 1, boxes[1][0])]
    ):
        rois = torch.cat([torch.tensor([float(image)]), box])[None]
        expected = roi_align(
            features[level], rois, 7, 1 / STRIDES[level], sampling_ratio=2, aligned=True
        )
        torch.testing.assert_close(pooled[row], expected[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_boxes_at_all(dtype):
    features = [torch.zeros(1, 3, 16, 16, dtype=dtype) for _ in STRIDES]
    pooled = _pool(features, [torch.zeros(0, 4)])
    assert pooled.shape == (0, 3, 7, 7)
    assert pooled.dtype == torch.float32
