"""The iteration: what crosses, which gradients follow, and what must not matter."""

import pytest
import torch

from refine.detector.ibpp import IBPP
from refine.detector.rois import RoIs
from refine.ops.boxes import Chosen
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


def _rois(counts=(2, 1), scores=None):
    """RoIs of rising categories; scores run through all of them."""
    total = sum(counts)
    corners = torch.rand(total, 2, generator=torch.Generator().manual_seed(1)) * 30
    return RoIs.of_detections(
        torch.cat([corners, corners + 20], dim=1),
        torch.arange(total) % THINGS,
        torch.ones(total) if scores is None else torch.tensor(scores),
        list(counts),
    )


def _inputs(rois):
    rng = torch.Generator().manual_seed(2)
    pooled = torch.randn(len(rois.boxes), WIDTH, 14, 14, generator=rng)
    feature = torch.randn(len(rois.counts), WIDTH, *SIZE, generator=rng)
    return pooled, feature


def _run(ibpp, rois, inputs=None):
    """Outputs of all iterations on fixed RoIs; the first is P_sem^(0)."""
    pooled, feature = inputs or _inputs(rois)
    joined = ibpp.join_features(pooled, feature, rois.boxes_of_images)
    return list(ibpp.iterate(feature, ibpp.predict_semantics(feature), [(rois, joined)] * 2))


def _reaches(value, module):
    """Whether the gradient of a value's sum of squares reaches a module."""
    grads = torch.autograd.grad(
        value.square().sum(), list(module.parameters()), allow_unused=True, retain_graph=True
    )
    return any(g is not None and bool(g.abs().sum() > 0) for g in grads)


@pytest.mark.parametrize("counts", [(2, 1), (0, 0), (0, 1), (1,)])
def test_shapes_and_gradients_of_the_iterations(counts):
    ibpp, total = _ibpp(), sum(counts)
    start, *later = outputs = _run(ibpp, _rois(counts))
    assert start.mask_logits.shape == (0, 28, 28)
    assert start.rois is None
    assert [o.mask_logits.shape for o in later] == [(total, 28, 28)] * 2
    assert later[0].canvas.shape == (len(counts), total, *SIZE)
    assert {o.semantic_logits.shape for o in outputs} == {(len(counts), CATEGORIES, *SIZE)}
    assert torch.isfinite(later[-1].semantic_logits).all()
    sum(o.mask_logits.sum() + o.semantic_logits.sum() for o in outputs).backward()
    assert all(p.grad is not None for n, p in ibpp.named_parameters() if "predictor" not in n)


def test_without_iterations_there_is_one_output_with_plain_masks():
    rois = _rois()
    ibpp = _ibpp(num_iterations=0)
    pooled, feature = _inputs(rois)
    (output,) = _run(ibpp, rois)
    masks = ibpp.mask_heads[0](pooled, rois.labels)
    assert torch.equal(output.mask_logits, masks)
    assert torch.equal(output.semantic_logits, ibpp.semantic_predictor(feature))
    assert output.canvas.shape == (2, 0, *SIZE)


def test_every_iteration_takes_its_own_rois():
    ibpp, rois = _ibpp(), _rois()
    pooled, feature = _inputs(rois)
    few = rois.where(rois.labels == 0)
    inputs = iter([(rois, pooled), (rois.select(few), pooled[few.index])])
    iterations = ibpp.iterate(feature, ibpp.predict_semantics(feature), inputs)
    next(iterations)  # takes none: nothing is pooled before its turn
    assert [len(o.mask_logits) for o in iterations] == [3, 1]


@pytest.mark.parametrize(
    ("options", "masks_read_semantics", "semantics_read_masks", "feature_is_added"),
    [
        ({}, True, True, True),
        ({"detach": "both"}, False, False, True),
        ({"detach": "sem_to_ins"}, False, True, True),
        ({"detach": "ins_to_sem"}, True, False, True),
        ({"direction": "none"}, False, False, False),
        ({"direction": "sem_to_ins"}, True, False, True),
        ({"direction": "ins_to_sem"}, False, True, False),
        ({"carry": "features"}, False, False, True),  # F_sem crosses, no prediction does
        ({"carry": "predictions"}, True, True, False),
    ],
)
def test_options_open_and_close_the_routes_of_gradients(
    options, masks_read_semantics, semantics_read_masks, feature_is_added
):
    """Oracle 4: the routes that the paper is about."""
    ibpp, rois = _ibpp(**options), _rois()
    _, first, second = _run(ibpp, rois)
    assert _reaches(first.mask_logits, ibpp.semantic_predictor) == masks_read_semantics
    assert _reaches(second.mask_logits, ibpp.refined_heads[0]) == masks_read_semantics
    assert not _reaches(first.mask_logits, ibpp.refined_heads[0])
    assert _reaches(first.semantic_logits, ibpp.mask_heads[0]) == semantics_read_masks
    assert _reaches(second.semantic_logits, ibpp.mask_heads[1]) == semantics_read_masks
    assert _reaches(first.mask_logits, ibpp.mask_heads[0])
    pooled, feature = _inputs(rois)
    joined = ibpp.join_features(pooled, feature, rois.boxes_of_images)
    assert torch.equal(joined, pooled) != feature_is_added


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


def test_scores_weigh_the_canvas_and_weak_detections_stay_off_it():
    rois = _rois(scores=[0.5, 0.04, 1.0])
    logits = torch.full((3, 28, 28), 20.0)
    canvas, planes = _ibpp().project_masks(logits, rois, SIZE)
    assert planes.tolist() == [0, 2]
    maxima = [[0.5, 0], [0, 1]]  # of each image and plane
    torch.testing.assert_close(canvas.amax(dim=(2, 3)), torch.tensor(maxima))
    unweighted, _ = _ibpp(canvas_weight="none").project_masks(logits, rois, SIZE)
    assert float(unweighted[0, 0].max()) == pytest.approx(1.0)
    faded, _ = _ibpp().project_masks(logits, rois, SIZE, 0.1)
    torch.testing.assert_close(faded, 0.1 * canvas)


def test_the_order_of_rois_does_not_matter():
    rois, order = _rois((3,)), torch.tensor([2, 0, 1])
    pooled, feature = _inputs(rois)
    ibpp = _ibpp()
    here = _run(ibpp, rois, (pooled, feature))[1]
    there = _run(ibpp, rois.select(Chosen(order, [3])), (pooled[order], feature))[1]
    torch.testing.assert_close(here.semantic_logits, there.semantic_logits)
    torch.testing.assert_close(here.mask_logits[order], there.mask_logits)


def test_softmax_projection_reads_probabilities():
    ibpp = _ibpp(project="softmax")
    logits = torch.randn(1, CATEGORIES, *SIZE)
    pooled = ibpp.pool_semantics(logits, [torch.tensor([[8.0, 8.0, 40.0, 40.0]])], 14)
    torch.testing.assert_close(pooled.sum(dim=1), torch.ones(1, 14, 14))


@pytest.mark.parametrize(("is_shared", "count"), [(False, 2), (True, 1)])
def test_heads_are_shared_on_request(is_shared, count):
    ibpp = _ibpp(share_heads=is_shared)
    assert len(ibpp.mask_heads) == len(ibpp.refined_heads) == count


@pytest.mark.parametrize("flows", [True, False])
def test_mask_features_flow_on_request(flows):
    # the semantic route is cut, so only the features of head 1 can carry the gradient
    ibpp = _ibpp(mask_info_flow=flows, direction="ins_to_sem")
    last = _run(ibpp, _rois())[-1]
    assert _reaches(last.mask_logits, ibpp.mask_heads[0].convs) == flows
