import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from make.batches import make_target, tiny_network
from refine.detector.rois import BACKGROUND, Truth, sample_rois
from refine.ops.boxes import match_boxes
from refine.options import RoIOptions

BOX = torch.tensor([[10.0, 10.0, 30.0, 30.0]])


@pytest.mark.parametrize(
    ("candidates", "rescue", "expected"),
    [
        ([[10, 10, 30, 30], [10, 10, 30, 22], [50, 50, 60, 60]], False, [0, -2, -1]),
        ([[10, 10, 14, 14], [50, 50, 60, 60]], True, [0, -1]),  # its best, however low
    ],
)
def test_match_boxes_by_iou(candidates, rescue, expected):
    candidates = torch.tensor(candidates, dtype=torch.float32)
    truth = Truth.of([make_target(BOX.tolist(), [0]), make_target([], [])])
    settings = {"high": 0.7, "low": 0.3, "rescue": rescue}
    matched = match_boxes(truth.boxes, truth.rows, candidates.expand(2, -1, -1), **settings)
    assert matched.tolist() == [expected, [-1] * len(expected)]
    nothing = Truth.of([make_target([], [])])
    assert match_boxes(nothing.boxes, nothing.rows, BOX[None], **settings).tolist() == [[-1]]


@pytest.mark.parametrize("pairs", [None, 1, 500])
@pytest.mark.parametrize("rescue", [False, True])
def test_images_are_matched_as_if_alone(rescue, pairs, monkeypatch):
    """By torchvision's IoU, whatever the number of images that are compared at a time."""
    if pairs:
        monkeypatch.setattr("refine.ops.boxes.CPU_PAIRS", pairs)
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 40, (5, 30, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, 40, (5, 30, 2))], axis=2)
    boxes = torch.from_numpy(boxes.astype(np.float32))
    boxes[:, :3, 2] = boxes[:, :3, 0]  # no area
    counts = (3, 0, 7, 1, 0)
    truth = Truth.of(
        [make_target(b[10 : 10 + n].tolist(), [0] * n) for b, n in zip(boxes, counts, strict=True)]
    )
    matched = match_boxes(truth.boxes, truth.rows, boxes, high=0.5, low=0.2, rescue=rescue)
    for k, (of_image, count) in enumerate(zip(matched.tolist(), counts, strict=True)):
        iou = box_iou(boxes[k], boxes[k, 10 : 10 + count]).tolist()
        best_of = [max(column) for column in zip(*iou, strict=True)]
        for found, row in zip(of_image, iou, strict=True):
            best = max(row, default=0.0)
            first = sum(counts[:k])
            if best >= 0.5 or (rescue and any(a == b for a, b in zip(row, best_of, strict=True))):
                assert found == first + row.index(best)
            else:
                assert found == (-1 if best < 0.2 else -2)


def test_proposals_lie_inside_the_images_and_anchors_on_their_cells():
    network = tiny_network().eval()
    images, sizes = torch.randn(2, 3, 64, 96), [(64, 96), (40, 50)]
    with torch.no_grad():
        output = network.proposals(network.backbone(images), images)
        proposals = network.proposals.propose(output, sizes, pre_nms=100, post_nms=20)
    for boxes, (height, width) in zip(proposals, sizes, strict=True):
        assert 0 < len(boxes) <= 20
        assert (boxes[:, 2:] <= torch.tensor([width, height])).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
    cells = [(64 // s) * (96 // s) for s in (4, 8, 16, 32)]
    assert [len(a) for a in output.anchors] == [3 * count for count in (*cells, 2)]
    square = output.anchors[0][1]  # aspect ratio 1 of the first cell
    assert (square[2:] - square[:2]).tolist() == [8.0, 8.0]


@pytest.mark.parametrize("count", [0, 1])
def test_rois_start_with_positives_and_include_the_instances_own_boxes(count):
    rois, positives = sample_rois(
        [torch.rand(50, 4) + torch.tensor([0.0, 0, 2, 2])],
        Truth.of([make_target(BOX[:count].tolist(), [2] * count)]),
        iou_thresh=0.5,
        options=RoIOptions(samples_per_image=8, positive_fraction=0.25),
        generator=torch.Generator(),
    )
    assert rois.boxes.shape == (8, 4)
    assert positives.counts == [count]
    assert rois.labels.tolist() == [2] * count + [BACKGROUND] * (8 - count)
    assert rois.matched.tolist() == [0] * count + [BACKGROUND] * (8 - count)
    assert torch.equal(rois.boxes[:count], BOX[:count])
