"""Stages, their samples, and what a stage hands to the next."""

import pytest
import torch
from torchvision.ops import box_iou

from make.batches import make_target
from refine.detector.box_cascade import BoxCascade
from refine.detector.rois import Truth
from refine.ops.boxes import Chosen
from refine.options import IBPPOptions, RoIOptions

THINGS, WIDTH, SIZE = 3, 8, (64, 96)


def _cascade(iou_thresh=(0.5, 0.6, 0.7), **options):
    torch.manual_seed(0)
    defaults = {"samples_per_image": 16, "box_fc_channels": 16}
    return BoxCascade(
        WIDTH, THINGS, options=RoIOptions(**defaults | options), iou_thresh=iou_thresh
    )


class _Pool:
    """RoI features that depend on the box alone; remembers the boxes it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, boxes):
        self.asked.append([b.clone() for b in boxes])
        count = sum(map(len, boxes))
        return torch.randn(count, WIDTH, 7, 7, generator=torch.Generator().manual_seed(count))


def _train(cascade, targets, *, count=40, pool=None, **ibpp):
    corner = torch.rand(count, 2, generator=torch.Generator().manual_seed(0)) * 40
    return cascade.loss(
        [torch.cat([corner, corner + 20], dim=1)] * len(targets),
        Truth.of(targets),
        pool=pool or _Pool(),
        image_sizes=[SIZE] * len(targets),
        ibpp=IBPPOptions(**{"num_iterations": 3} | ibpp),
        generator=torch.Generator().manual_seed(1),
    )


TARGET = make_target([[10, 10, 30, 30], [40, 20, 70, 60]], [0, 2])
EMPTY = make_target([], [])


def test_one_stage_is_a_plain_head_and_several_regress_one_box():
    plain, cascade = _cascade([0.5]), _cascade()
    assert plain.stages[0].head.regressor.out_features == 4 * THINGS
    assert [s.head.regressor.out_features for s in cascade.stages] == [4, 4, 4]
    assert [s.box_coder.weights[1:3] for s in cascade.stages] == [(10, 5), (20, 10), (30, 15)]


@pytest.mark.parametrize("mask_rois", ["interleaved", "stage_input"])
def test_every_stage_has_losses_and_positives(mask_rois):
    losses, positives = _train(_cascade(), [TARGET, TARGET], mask_rois=mask_rois)
    assert list(losses) == [f"box_{x}_{k}" for k in (1, 2, 3) for x in ("class", "regression")]
    assert all(torch.isfinite(v) for v in losses.values())
    assert len(positives) == 3
    for rois in positives:
        assert min(rois.counts) > 0  # an instance's own box is a candidate of every stage
        assert not rois.boxes.requires_grad
        assert torch.equal(rois.matched // 2, rois.images)  # each image has two instances
        assert torch.equal(rois.labels, TARGET.labels[rois.matched % 2])
        assert ((rois.scores > 0) & (rois.scores < 1)).all()


@pytest.mark.parametrize(
    ("mask_rois", "iou"), [("interleaved", 0.5), ("interleaved", 0.7), ("stage_input", 0.5)]
)
def test_positives_are_regressed_or_given_boxes_above_the_iou_of_the_stage(mask_rois, iou):
    pool = _Pool()
    losses, (rois,) = _train(_cascade([iou]), [TARGET], pool=pool, mask_rois=mask_rois)
    assert list(losses) == ["box_class", "box_regression"]
    assert (box_iou(rois.boxes, TARGET.boxes).gather(1, rois.matched[:, None]) >= iou).all()
    is_given = [(b == pool.asked[0][0]).all(dim=1).any() for b in rois.boxes]
    assert all(is_given) if mask_rois == "stage_input" else not any(is_given)


def test_a_stage_works_on_the_boxes_of_the_one_before():
    cascade, pool = _cascade(), _Pool()
    boxes = torch.tensor([[8.0, 8.0, 30.0, 30.0], [40.0, 20.0, 70.0, 60.0]])
    for stage in cascade.stages:  # every stage moves boxes by a tenth of their width
        torch.nn.init.zeros_(stage.head.regressor.weight)
        shift = torch.tensor([0.1, 0.0, 0.0, 0.0]) * torch.tensor(stage.box_coder.weights)
        stage.head.regressor.bias.data = shift
    cascade.detect([boxes], pool=pool, image_sizes=[SIZE])
    first, second, third = (asked[0] for asked in pool.asked)
    torch.testing.assert_close(first, boxes)
    for before, after in ((first, second), (second, third)):
        moved = before + torch.tensor([0.1, 0, 0.1, 0]) * (before[:, 2:3] - before[:, :1])
        torch.testing.assert_close(after, moved)


def test_scores_are_averaged_and_boxes_are_the_last_stage_s():
    cascade = _cascade(score_thresh=0.0, nms_thresh=1.0)
    boxes = torch.tensor([[8.0, 8.0, 30.0, 30.0]])
    logits = [torch.tensor([0.0, k, 0.0, 0.0]) for k in (1.0, 2.0, 3.0)]
    for stage, bias in zip(cascade.stages, logits, strict=True):
        torch.nn.init.zeros_(stage.head.regressor.weight)
        torch.nn.init.zeros_(stage.head.classifier.weight)
        stage.head.classifier.bias.data = bias
    found = cascade.detect([boxes], pool=_Pool(), image_sizes=[SIZE])
    expected = torch.stack([b.softmax(0)[1:] for b in logits]).mean(dim=0)
    torch.testing.assert_close(found.scores, expected.sort(descending=True).values)
    assert int(found.labels[0]) == 0


@pytest.mark.parametrize("iou_thresh", [[0.5], [0.5, 0.6, 0.7]])
def test_no_proposals_and_no_instances(iou_thresh):
    cascade = _cascade(iou_thresh)
    found = cascade.detect([torch.zeros(0, 4)], pool=_Pool(), image_sizes=[SIZE])
    assert len(found.boxes) == 0
    losses, _ = _train(cascade, [make_target([], [])], count=0)
    assert all(float(v.detach()) == 0 for v in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in cascade.parameters())


def test_the_gradient_into_the_pyramid_is_shared_out_on_request():
    grads, values = [], []
    for scale in (False, True):
        cascade = _cascade(scale_gradient=scale)
        feature = torch.ones((), requires_grad=True)
        losses, _ = _train(cascade, [TARGET], pool=lambda boxes, f=feature: _Pool()(boxes) * f)
        losses["box_class_1"].backward()
        grads.append(feature.grad)
        values.append([float(v.detach()) for v in losses.values()])
    assert values[0] == values[1]  # to the last bit: what is learnt on is what is predicted on
    torch.testing.assert_close(grads[1], grads[0] / 3)


def test_final_rois_are_those_of_the_last_stage_matched_at_one_half():
    many = {"samples_per_image": 400}  # nothing is left out by the draw
    _, (strict,) = _train(_cascade([0.7], **many), [TARGET], mask_rois="interleaved")
    _, (final,) = _train(_cascade([0.7], **many), [TARGET], mask_rois="final")
    ious = box_iou(final.boxes, TARGET.boxes).gather(1, final.matched[:, None])
    assert (ious >= 0.5).all()
    assert 0 < len(strict.boxes) < len(final.boxes)
    is_strict = [(b == strict.boxes).all(dim=1).any() for b in final.boxes]
    assert is_strict == [bool(iou >= 0.7) for iou in ious]
    _, found = _train(_cascade(), [TARGET, TARGET], mask_rois="final")
    assert [len(of_stage.counts) for of_stage in found] == [2]


@pytest.mark.parametrize("mask_rois", ["interleaved", "stage_input", "final"])
def test_true_boxes_are_added_with_their_scores(mask_rois):
    cascade, pool, losses = _cascade(), _Pool(), []
    for add in (False, True):
        loss, found = _train(
            cascade, [TARGET, EMPTY], pool=pool, mask_rois=mask_rois, mask_rois_add_truth=add
        )
        losses.append(loss)
    assert losses[0] == losses[1]
    for with_truth in found:
        assert with_truth.counts == [len(with_truth.boxes), 0]
        added = with_truth.select(Chosen(torch.tensor([-2, -1]), [2, 0]))
        assert torch.equal(added.boxes, TARGET.boxes)
        assert torch.equal(added.labels, TARGET.labels)
        assert added.matched.tolist() == [0, 1]
    logits, _ = cascade.stages[-1].head(pool([TARGET.boxes]))
    expected = logits.softmax(dim=1)[[0, 1], TARGET.labels + 1]
    torch.testing.assert_close(added.scores, expected.detach())


@pytest.mark.parametrize("mask_rois", ["interleaved", "stage_input", "final"])
def test_false_positives_match_nothing_or_have_another_category(mask_rois):
    targets = [TARGET, EMPTY]
    _, plain = _train(_cascade(), targets, mask_rois="final")
    _, found = _train(
        _cascade(), targets, mask_rois=mask_rois, canvas_false_positives=3, canvas_score_thresh=0.2
    )
    assert plain[0].counts[1] == 0
    for rois in found:
        assert 0 < rois.counts[1] <= 3
        wrong = rois.select(rois.where(~rois.is_true))
        assert max(wrong.counts) <= 3
        assert (wrong.scores >= 0.2).all()
        for target, boxes, labels in zip(
            targets, wrong.boxes_of_images, torch.split(wrong.labels, wrong.counts), strict=True
        ):
            for box, label in zip(boxes, labels, strict=True):
                ious = box_iou(box[None], target.boxes)[0]
                assert not (ious[target.labels == label] >= 0.7).any()
