"""Test-time augmentation against its plain form, and what must hold for it whatever the network."""

import numpy as np
import pytest
import torch

from make.batches import NUM_CATEGORIES, NUM_THINGS, tiny_network
from oracles import views as oracle
from refine.data.collate import collate
from refine.data.transforms import eval_geometry, make_views, transform_image
from refine.fusion.pixel_evidence import average_semantics
from refine.options import (
    FusionOptions,
    ImageOptions,
    MergeOptions,
    RoIOptions,
    UnknownErasingOptions,
)
from refine.pipeline import Pipeline
from refine.types import Sample

SIZE = (50, 70)


def _pipeline(*, network=None, **fusion):
    torch.manual_seed(0)
    network = network or tiny_network()
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.add_(torch.rand(value.shape) * 0.02)
    options = FusionOptions(merge=MergeOptions(score_thresh=0.25, overlap_thresh=0.3), **fusion)
    return Pipeline(network, num_things=NUM_THINGS, fusion=options, stuff_area_limit_px=1).eval()


def _photo(seed=0, size=SIZE):
    coarse = np.random.default_rng(seed).integers(0, 256, (-(-size[0] // 10), -(-size[1] // 10), 3))
    return coarse.astype(np.uint8).repeat(10, 0).repeat(10, 1)[: size[0], : size[1]].copy()


def _options(scales=(1.0,), flip=False):
    return ImageOptions(
        eval_short_side_px=64, max_long_side_px=96, eval_scales=list(scales), eval_flip=flip
    )


def _sample(pixels, options):
    size = pixels.shape[:2]
    image = transform_image(pixels, eval_geometry(size, options))
    return Sample(
        image=image, image_id=1, file_name="photo", original_size=size,
        views=make_views(pixels, options),
    )  # fmt: skip


def _predict(pipeline, pixels, options):
    return pipeline.predict(collate([_sample(pixels, options)]))[0]


def _frames(views):
    return [(*v.image.shape[1:], v.is_flipped) for v in views]


def test_views_are_all_scales_then_all_mirrored():
    views = make_views(_photo(), _options(scales=(1.0, 0.5), flip=True))
    assert _frames(views) == [(64, 90, False), (32, 45, False), (64, 90, True), (32, 45, True)]
    assert torch.equal(views[2].image, views[0].image.flip(-1))
    assert make_views(_photo(), _options()) == ()


VIEWS = {"flip": ((1.0,), True), "scales": ((1.0, 0.5, 1.4), False), "both": ((0.7, 1.0), True)}


@pytest.mark.parametrize(("scales", "flip"), VIEWS.values(), ids=VIEWS)
def test_equals_the_plain_form(scales, flip):
    pipeline, pixels = _pipeline(), _photo()
    views = make_views(pixels, _options(scales, flip))
    frames, network = _frames(views), pipeline.network
    evidence, _ = _predict(pipeline, pixels, _options(scales, flip))
    batches = [collate([Sample(image=v.image, image_id=1, file_name="", original_size=SIZE)])
               for v in views]  # fmt: skip
    with torch.no_grad():
        found = [network.predict(batch)[0] for batch in batches]
    entries = [
        list(zip(raw.boxes.tolist(), raw.labels.tolist(), raw.scores.tolist(), strict=True))
        for raw in found
    ]
    options = RoIOptions()
    kept = oracle.merge_boxes(entries, frames, iou_thresh=options.nms_thresh, limit=20)
    raw = evidence.raw
    assert len(kept) == len(raw.boxes) > 0
    boxes = torch.tensor([box for box, _, _ in kept])
    torch.testing.assert_close(raw.boxes, boxes, rtol=1e-4, atol=1e-3)
    assert raw.labels.tolist() == [label for _, label, _ in kept]
    torch.testing.assert_close(raw.scores, torch.tensor([score for _, _, score in kept]))
    masks = []
    for batch, (height, width, is_flipped) in zip(batches, frames, strict=True):
        scaled = boxes * torch.tensor([width, height] * 2) / torch.tensor(frames[0][1::-1] * 2)
        if is_flipped:
            scaled[:, [0, 2]] = width - scaled[:, [2, 0]]
        with torch.no_grad():
            (seen,) = network.observe_boxes(batch, [scaled], [raw.labels])
        masks.append(seen.raw.mask_logits.sigmoid().numpy())
    mean = oracle.mean_masks(masks, frames)
    np.testing.assert_allclose(raw.mask_logits.sigmoid().numpy(), mean, atol=1e-4)
    logits = [raw.semantic_logits.numpy() for raw in found]
    shares = oracle.mean_probabilities(logits, frames, SIZE)
    first, second = np.sort(shares, axis=2)[..., -1], np.sort(shares, axis=2)[..., -2]
    clear = first - second > 1e-5
    assert clear.mean() > 0.9
    assert (evidence.semantic_map() == shares.argmax(axis=2))[clear].all()


@pytest.mark.parametrize("iterations", [0, 2])
def test_one_view_is_the_plain_prediction(iterations):
    """Scales of [1.0] have no views, so one view is made by hand."""
    pipeline, pixels = _pipeline(network=tiny_network(iterations=iterations)), _photo()
    plain, expected = _predict(pipeline, pixels, _options())
    sample = _sample(pixels, _options(flip=True))
    sample.views = sample.views[:1]
    seen, panoptic = pipeline.predict(collate([sample]))[0]
    for name in ("boxes", "scores", "labels", "mask_logits", "semantic_logits"):
        assert torch.equal(getattr(seen.raw, name), getattr(plain.raw, name)), name
    assert (seen.semantic_map() == plain.semantic_map()).all()
    assert (panoptic.segment_map == expected.segment_map).all()
    assert panoptic.segments == expected.segments
    assert len(expected.segments) > 0


@pytest.mark.parametrize("iterations", [0, 2])
def test_the_mirrored_photo_has_the_mirrored_answer(iterations):
    """Whatever the network: both photos have the same views."""
    pipeline, pixels = _pipeline(network=tiny_network(iterations=iterations)), _photo(3)
    options = _options(flip=True)
    (seen, ours), (turned, theirs) = (
        _predict(pipeline, p, options) for p in (pixels, np.ascontiguousarray(pixels[:, ::-1]))
    )
    assert len(ours.segments) > 0
    assert (seen.semantic_map() == turned.semantic_map()[:, ::-1]).all()
    torch.testing.assert_close(seen.raw.scores, turned.raw.scores)
    assert (ours.segment_map == theirs.segment_map[:, ::-1]).mean() > 0.999  # rounding at edges


def test_a_symmetric_photo_has_a_symmetric_semantic_map():
    pixels = _photo(5, (50, 35))
    symmetric = np.concatenate([pixels, pixels[:, ::-1]], axis=1)
    seen, _ = _predict(_pipeline(), symmetric, _options(flip=True))
    semantic = seen.semantic_map()
    assert len(np.unique(semantic)) > 1
    assert (semantic == semantic[:, ::-1]).all()


def test_unknown_erasing_reads_the_mean_probabilities():
    pipeline, pixels = _pipeline(), _photo()
    evidence, _ = _predict(pipeline, pixels, _options((1.0, 0.7), True))
    raws = pipeline.network.observe_views(
        (sample := _sample(pixels, _options((1.0, 0.7), True))).views, sample
    )
    semantic, probabilities = average_semantics([o.raw for o in raws], [False, False, True, True])
    regions = evidence.regions(UnknownErasingOptions(mode="score", dilation_frac=0.0))
    for k, score in enumerate(regions.scores, start=1):
        assert score == pytest.approx(probabilities[regions.labels == k].mean(), abs=1e-6)
    assert set(np.unique(semantic[regions.labels > 0])) <= set(range(NUM_THINGS, NUM_CATEGORIES))
    erased = _pipeline(unknown_erasing=UnknownErasingOptions(mode="score", score_thresh=1.0))
    assert all(s.is_thing for s in _predict(erased, pixels, _options(flip=True))[1].segments)


def test_a_batch_of_photos_with_views_is_each_by_itself():
    pipeline, options = _pipeline(), _options((1.0, 0.6), True)
    photos = [_photo(1), _photo(2, (40, 90))]
    alone = [_predict(pipeline, photo, options)[1] for photo in photos]
    together = pipeline.predict(collate([_sample(photo, options) for photo in photos]))
    for mine, (_, yours) in zip(alone, together, strict=True):
        assert (mine.segment_map == yours.segment_map).all()
