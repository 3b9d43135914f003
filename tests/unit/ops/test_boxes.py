import pytest
import torch
from torchvision.ops import roi_align

from refine.ops.boxes import is_proper, sample_labels
from refine.ops.roi_align import pool_rois

STRIDES = (4, 8, 16, 32)


def _sample(*labels, **kwargs):
    """Labels of each image: 1 positive, 0 negative, -1 neither."""
    settings = {"num_samples": 8, "positive_fraction": 0.25, "generator": torch.Generator()}
    matched = torch.tensor(labels, dtype=torch.int64) - 1
    drawn, positives = sample_labels(matched, **(settings | kwargs))
    assert len(drawn.index) == sum(drawn.counts)
    return drawn, positives


@pytest.mark.parametrize(
    ("labels", "drawn"),
    [
        ([1] * 10 + [0] * 20 + [-1] * 5, [1, 1] + [0] * 6),
        ([1] + [0] * 20, [1] + [0] * 7),  # negatives fill up when positives are few
        ([0, 0, -1], [0, 0]),
        ([], []),
    ],
)
def test_sample_has_few_positives_and_no_ignored(labels, drawn):
    chosen, positives = _sample(labels)
    index = chosen.index.tolist()
    assert positives.index.tolist() == list(range(drawn.count(1)))
    assert [labels[k] for k in index] == drawn
    assert len(set(index)) == len(index)


def test_images_are_drawn_from_in_turn():
    images = [[-1, 0, 0, -1, 1, 0], [-1] * 6, [1, 1, 1, -1, -1, 0]]
    together = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    settings = {"num_samples": 3, "positive_fraction": 0.5}
    drawn, positives = _sample(*images, generator=together[0], **settings)
    alone = [_sample(labels, generator=together[1], **settings)[0] for labels in images]
    assert drawn.counts == [len(one.index) for one in alone] == [3, 0, 2]
    assert positives.counts == [1, 0, 1]
    assert drawn.index.tolist() == [
        6 * k + place for k, one in enumerate(alone) for place in one.index.tolist()
    ]
    assert [images[k // 6][k % 6] for k in drawn.index[positives.index].tolist()] == [1, 1]


def test_the_generator_decides():
    labels = [0] * 50
    first, again, other = (
        _sample(labels, generator=torch.Generator().manual_seed(seed))[0].index
        for seed in (3, 3, 4)
    )
    assert first.tolist() == again.tolist() != other.tolist()


def test_proper_boxes_have_an_area_and_finite_corners():
    inf, nan = float("inf"), float("nan")
    boxes = torch.tensor(
        [[0.0, 0, 1, 1], [1, 1, 1, 2], [2, 2, 1, 3], [0, 0, inf, 1], [nan, 0, 1, 1]]
    )
    assert is_proper(boxes).tolist() == [True, False, False, False, False]


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
