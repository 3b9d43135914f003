import pytest
import torch

from make.batches import make_target, tiny_network
from refine.detector.rois import BACKGROUND, sample_rois
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
    matched = match_boxes(BOX, candidates, high=0.7, low=0.3, rescue=rescue)
    assert matched.tolist() == expected
    assert match_boxes(BOX[:0], BOX, high=0.5, low=0.5, rescue=rescue).tolist() == [-1]


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
    (rois,) = sample_rois(
        [torch.rand(50, 4) + torch.tensor([0.0, 0, 2, 2])],
        [make_target(BOX[:count].tolist(), [2] * count)],
        iou_thresh=0.5,
        options=RoIOptions(samples_per_image=8, positive_fraction=0.25),
        generator=torch.Generator(),
    )
    assert rois.boxes.shape == (8, 4)
    assert rois.labels.tolist() == [2] * count + [BACKGROUND] * (8 - count)
    assert rois.matched.tolist() == [0] * count + [BACKGROUND] * (8 - count)
    assert torch.equal(rois.boxes[:count], BOX[:count])
