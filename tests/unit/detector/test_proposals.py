import pytest
import torch

from make.batches import tiny_network
from refine.detector.proposals import match_boxes
from refine.detector.rois import BACKGROUND, sample_rois
from refine.options import RoIOptions
from refine.types import TrainingTarget

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
    matched = match_boxes(BOX, candidates, high=0.7, low=0.3, rescue=rescue)
    assert matched.tolist() == expected
    assert match_boxes(BOX[:0], BOX, high=0.5, low=0.5, rescue=rescue).tolist() == [-1]


def test_proposals_are_inside_the_image_without_padding_and_best_first():
    network = tiny_network().eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        output = network.proposals(network.backbone(images), images)
        proposals = network.proposals.propose(
            output, [(64, 96), (40, 50)], pre_nms=100, post_nms=20
        )
    assert [len(p) <= 20 for p in proposals] == [True, True]
    assert proposals[1][:, 2].max() <= 50
    assert proposals[1][:, 3].max() <= 40
    assert all(((p[:, 2:] - p[:, :2]) > 0).all() for p in proposals)


def test_anchor_grid_is_centred_on_its_cells():
    network = tiny_network()
    images = torch.zeros(1, 3, 64, 96)
    output = network.proposals(network.backbone(images), images)
    assert [len(a) for a in output.anchors] == [
        3 * (64 // s) * (96 // s) for s in (4, 8, 16, 32)
    ] + [3 * 1 * 2]
    square = output.anchors[0][1]  # aspect ratio 1 of the first cell
    assert (square[2:] - square[:2]).tolist() == [8.0, 8.0]


def _target(boxes, labels):
    return TrainingTarget(
        semantic=torch.zeros(64, 64, dtype=torch.uint8), boxes=boxes, labels=labels, masks=()
    )


def test_rois_start_with_positives_and_include_the_instances_own_boxes():
    rois = sample_rois(
        torch.rand(50, 4) + torch.tensor([0.0, 0, 2, 2]),
        _target(BOX, torch.tensor([2])),
        iou_thresh=0.5,
        options=RoIOptions(samples_per_image=8, positive_fraction=0.25),
        generator=torch.Generator(),
    )
    assert rois.boxes.shape == (8, 4)
    assert rois.labels.tolist() == [2] + [BACKGROUND] * 7
    assert rois.matched.tolist() == [0] + [BACKGROUND] * 7
    assert rois.boxes[0].tolist() == BOX[0].tolist()


def test_rois_without_instances_are_background():
    rois = sample_rois(
        BOX, _target(BOX[:0], torch.zeros(0, dtype=torch.int64)),
        iou_thresh=0.5, options=RoIOptions(), generator=torch.Generator(),
    )  # fmt: skip
    assert rois.labels.tolist() == rois.matched.tolist() == [BACKGROUND]
