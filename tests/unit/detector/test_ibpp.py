"""The iteration: what crosses, which gradients follow, and what must not matter."""

import pytest
import torch

from refine.detector.ibpp import IBPP
from refine.detector.rois import RoIs
from refine.options import IBPPOptions, RoIOptions

WIDTH, THINGS, CATEGORIES, SIZE = 32, 3, 5, (16, 24)
ROI = RoIOptions(mask_channels=32, mask_convs=1, sampling_ratio=2)


def _ibpp(**options):
    torch.manual_seed(0)
    return IBPP(
        IBPPOptions(**{"num_iterations": 2} | options),
        roi=ROI,
        channels=WIDTH,
        semantic_channels=WIDTH,
        num_things=THINGS,
        num_categories=CATEGORIES,
    )


def _rois(counts=(2, 1), labels=None, scores=None):
    """RoIs of each image; labels and scores run through all of them."""
    rng = torch.Generator().manual_seed(1)
    total = sum(counts)
    corners = torch.cat([torch.rand(count, 2, generator=rng) for count in counts]) * 30
    every = RoIs.of_detections(
        torch.cat([corners, corners + 20], dim=1),
        torch.arange(total) % THINGS if labels is None else torch.tensor(labels),
        torch.ones(total) if scores is None else torch.tensor(scores),
    )
    return [every.select(index) for index in torch.arange(total).split(counts)]


def _inputs(rois):
    rng = torch.Generator().manual_seed(2)
    pooled = torch.randn(sum(len(r.boxes) for r in rois), WIDTH, 14, 14, generator=rng)
    feature = torch.randn(len(rois), WIDTH, *SIZE, generator=rng)
    return pooled, feature


def _run(ibpp, rois, inputs=None):
    """Outputs of all iterations on fixed RoIs; the first is P_sem^(0)."""
    pooled, feature = inputs or _inputs(rois)
    joined = ibpp.join_features(pooled, feature, [r.boxes for r in rois])
    return list(ibpp.iterate(feature, ibpp.predict_semantics(feature), [(rois, joined)] * 2))


def _reaches(value, module):
    """Whether the gradient of a value's sum of squares reaches a module."""
    grads = torch.autograd.grad(
        value.square().sum(), list(module.parameters()), allow_unused=True, retain_graph=True
    )
    return any(g is not None and bool(g.abs().sum() > 0) for g in grads)


def test_shapes_of_the_iterations():
    start, first, second = _run(_ibpp(), _rois())
    assert start.mask_logits.shape == (0, 28, 28)
    assert not start.rois
    assert first.mask_logits.shape == second.mask_logits.shape == (3, 28, 28)
    assert first.canvas.shape == (2, THINGS, *SIZE)
    assert all(o.semantic_logits.shape == (2, CATEGORIES, *SIZE) for o in (start, first, second))


def test_without_iterations_there_is_one_output_with_plain_masks():
    rois = _rois()
    ibpp = _ibpp(num_iterations=0)
    pooled, feature = _inputs(rois)
    (output,) = _run(ibpp, rois)
    labels = torch.cat([r.labels for r in rois])
    assert torch.equal(output.mask_logits, ibpp.mask_heads[0](pooled, labels))
    assert torch.equal(output.semantic_logits, ibpp.semantic_predictor(feature))
    assert output.canvas.shape == (2, 0, *SIZE)


def test_every_iteration_takes_its_own_rois():
    ibpp, rois = _ibpp(), _rois()
    pooled, feature = _inputs(rois)
    few = [r.select(r.labels == 0) for r in rois]
    kept = torch.cat([r.labels for r in rois]) == 0
    asked = []

    def inputs():
        for of_iteration, features in ((rois, pooled), (few, pooled[kept])):
            asked.append(len(features))
            yield of_iteration, features

    iterations = ibpp.iterate(feature, ibpp.predict_semantics(feature), inputs())
    next(iterations)
    assert asked == []  # nothing is pooled before its turn
    assert [len(o.mask_logits) for o in iterations] == asked == [3, 1]


def test_gradients_cross_in_both_directions():
    """Oracle 4: the routes that the paper is about."""
    ibpp = _ibpp()
    _, first, second = _run(ibpp, _rois())
    assert _reaches(first.semantic_logits, ibpp.mask_heads[0])  # L_sem^(1) -> mask head 1
    assert _reaches(second.semantic_logits, ibpp.mask_heads[1])  # L_sem^(2) -> mask head 2
    assert _reaches(second.semantic_logits, ibpp.mask_heads[0])  # ... and earlier ones
    assert _reaches(first.mask_logits, ibpp.semantic_predictor)  # L_mask^(1) -> H_sem
    assert _reaches(second.mask_logits, ibpp.refined_heads[0])  # L_mask^(2) -> H~_sem^(1)
    assert not _reaches(first.mask_logits, ibpp.refined_heads[0])


def test_gradients_do_not_cross_when_detached():
    ibpp = _ibpp(detach=True)
    _, first, second = _run(ibpp, _rois())
    assert not _reaches(first.semantic_logits, ibpp.mask_heads[0])
    assert not _reaches(second.semantic_logits, ibpp.mask_heads[0])
    assert not _reaches(first.mask_logits, ibpp.semantic_predictor)
    assert not _reaches(second.mask_logits, ibpp.refined_heads[0])
    assert _reaches(first.mask_logits, ibpp.mask_heads[0])


@pytest.mark.parametrize(
    ("options", "masks_read_semantics", "semantics_read_masks"),
    [
        ({}, True, True),
        ({"direction": "sem_to_ins"}, True, False),
        ({"direction": "ins_to_sem"}, False, True),
        ({"carry": "features"}, False, False),  # F_sem crosses, no prediction does
        ({"carry": "predictions"}, True, True),
    ],
)
def test_direction_and_carry_close_the_routes(options, masks_read_semantics, semantics_read_masks):
    ibpp = _ibpp(**options)
    first = _run(ibpp, _rois())[1]
    assert _reaches(first.mask_logits, ibpp.semantic_predictor) == masks_read_semantics
    assert _reaches(first.semantic_logits, ibpp.mask_heads[0]) == semantics_read_masks


@pytest.mark.parametrize(
    ("options", "is_added"),
    [({}, True), ({"carry": "predictions"}, False), ({"direction": "ins_to_sem"}, False)],
)
def test_the_semantic_feature_is_added_only_if_features_cross(options, is_added):
    rois = _rois()
    pooled, feature = _inputs(rois)
    joined = _ibpp(**options).join_features(pooled, feature, [r.boxes for r in rois])
    assert torch.equal(joined, pooled) != is_added


def test_nothing_can_cross_as_a_feature_from_instances():
    with pytest.raises(ValueError, match="nothing would cross"):
        IBPPOptions(direction="ins_to_sem", carry="features")


@pytest.mark.parametrize("refine_convs", [0, 1, 2])
def test_absent_planes_are_zero_planes(refine_convs):
    """Exact saving 4: convolving the present planes equals convolving the whole canvas."""
    head = _ibpp(refine_convs=refine_convs).refined_heads[0]
    feature = torch.randn(2, WIDTH, *SIZE)
    canvas = torch.zeros(2, THINGS, *SIZE)
    canvas[:, 1] = torch.rand(2, *SIZE)
    whole = head(feature, canvas, torch.arange(THINGS))
    present = head(feature, canvas[:, 1:2], torch.tensor([1]))
    torch.testing.assert_close(present, whole)


def test_planes_are_those_of_the_labels_at_hand():
    first = _run(_ibpp(), _rois(labels=[2, 2, 0]))[1]
    assert first.planes.tolist() == [0, 2]
    assert float(first.canvas[0, 0].detach().max()) == 0  # label 0 is in the second image only
    assert float(first.canvas[0, 1].detach().max()) > 0


def test_scores_weigh_the_canvas_and_weak_detections_stay_off_it():
    rois = _rois(labels=[0, 1, 2], scores=[0.5, 0.04, 1.0])
    logits = torch.full((3, 28, 28), 20.0)
    canvas, planes = _ibpp().project_masks(logits, rois, SIZE)
    assert planes.tolist() == [0, 2]
    assert float(canvas[0, 0].max()) == pytest.approx(0.5)
    unweighted, _ = _ibpp(canvas_weight="none").project_masks(logits, rois, SIZE)
    assert float(unweighted[0, 0].max()) == pytest.approx(1.0)
    faded, _ = _ibpp().project_masks(logits, rois, SIZE, 0.1)
    torch.testing.assert_close(faded, 0.1 * canvas)


@pytest.mark.parametrize("counts", [(0, 0), (0, 1), (1,)])
def test_images_without_rois(counts):
    ibpp = _ibpp()
    outputs = _run(ibpp, _rois(counts))
    assert torch.isfinite(outputs[-1].semantic_logits).all()
    total = sum(o.mask_logits.sum() + o.semantic_logits.sum() for o in outputs)
    total.backward()
    assert all(p.grad is not None for n, p in ibpp.named_parameters() if "predictor" not in n)


def test_the_order_of_rois_does_not_matter():
    (rois,), order = _rois((3,)), torch.tensor([2, 0, 1])
    pooled, feature = _inputs([rois])
    ibpp = _ibpp()
    here = _run(ibpp, [rois], (pooled, feature))[1]
    there = _run(ibpp, [rois.select(order)], (pooled[order], feature))[1]
    torch.testing.assert_close(here.semantic_logits, there.semantic_logits)
    torch.testing.assert_close(here.mask_logits[order], there.mask_logits)


def test_softmax_projection_reads_probabilities():
    ibpp = _ibpp(project="softmax")
    logits = torch.randn(1, CATEGORIES, *SIZE)
    pooled = ibpp.pool_semantics(logits, [torch.tensor([[8.0, 8.0, 40.0, 40.0]])], 14)
    torch.testing.assert_close(pooled.sum(dim=1), torch.ones(1, 14, 14))


def test_heads_are_shared_on_request():
    assert len(_ibpp().mask_heads) == len(_ibpp().refined_heads) == 2
    shared = _ibpp(share_heads=True)
    assert len(shared.mask_heads) == len(shared.refined_heads) == 1
    _run(shared, _rois())


@pytest.mark.parametrize("flows", [True, False])
def test_mask_features_flow_on_request(flows):
    # the semantic route is cut, so only the features of head 1 can carry the gradient
    ibpp = _ibpp(mask_info_flow=flows, direction="ins_to_sem")
    last = _run(ibpp, _rois())[-1]
    assert _reaches(last.mask_logits, ibpp.mask_heads[0].convs) == flows
