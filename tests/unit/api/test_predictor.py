import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image

import refine
from refine.categories import CategoryTable
from refine.coco_format.png import decode_segment_png
from refine.config import compose
from refine.data.collate import collate
from refine.data.transforms import eval_geometry, transform_image
from refine.options import ImageOptions
from refine.types import Sample
from refine.workflows.predict_images import predict


@pytest.fixture(scope="module")
def model(checkpoint):
    return refine.load(checkpoint, device="cpu")


@pytest.fixture(scope="module")
def result(model, photo):
    return model.predict(photo)


def test_a_prediction_is_what_the_pipeline_says(model, photo, result):
    geometry = eval_geometry((48, 60), ImageOptions(eval_short_side_px=64))
    image = transform_image(np.array(Image.open(photo)), geometry)
    sample = Sample(image=image, image_id=1, file_name="", original_size=(48, 60))
    ((_, expected),) = model.pipeline.predict(collate([sample]))
    assert (result.segment_map == expected.segment_map).all()
    assert any(s.is_thing for s in result.segments)
    for found, wanted in zip(result.segments, expected.segments, strict=True):
        category = model.categories[wanted.category]
        names = {"name": category.name, "category_id": category.dataset_id}
        assert asdict(found) == asdict(wanted) | names


@pytest.mark.parametrize(
    "form",
    [
        str,
        lambda path: Image.open(path).convert("RGBA"),
        lambda path: np.asfortranarray(Image.open(path)),
        lambda path: torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1),
    ],
)
def test_every_form_of_an_image_gives_the_same(model, photo, result, form):
    assert (model.predict(form(photo)).segment_map == result.segment_map).all()


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_list_gives_a_list_in_its_order(model, photo, result, batch_size):
    pixels = np.array(Image.open(photo))
    flipped = np.ascontiguousarray(pixels[:, ::-1])
    results = model.predict([photo, flipped, pixels], batch_size=batch_size)
    assert [r.file_name for r in results] == ["photo.png", "image_2.png", "image_3.png"]
    expected = [result, model.predict(flipped), result]
    for found, wanted in zip(results, expected, strict=True):
        assert (found.segment_map == wanted.segment_map).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("missing.jpg", "missing.jpg: No such file"),
        (7, "image.png: 7; give the path"),
        (np.zeros((4, 4, 3)), r"image.png: float64 of shape \(4, 4, 3\); give"),
        (torch.zeros(4, 5, 3, dtype=torch.uint8), r"uint8 of shape \(5, 3, 4\)"),
        (Image.new("F", (4, 4)), "pixels of type F"),
    ],
)
def test_other_inputs_are_refused(model, image, message):
    with pytest.raises(refine.RefineError, match=message):
        model.predict(image)


def test_settings_of_the_fusion_and_the_device_can_be_chosen(checkpoint, photo):
    changed = refine.load(checkpoint, fusion={"merge.score_thresh": 1.0})
    assert changed.pipeline.fusion.merge.overlap_thresh == 0.5
    assert not any(s.is_thing for s in changed.predict(photo).segments)
    with pytest.raises(refine.RefineError, match="scor_thresh"):
        refine.load(checkpoint, fusion={"merge.scor_thresh": 1.0})
    with pytest.raises(refine.RefineError, match=r"device=gpu: .*; use device=auto"):
        refine.load(checkpoint, device="gpu")


def test_results_in_one_folder_share_its_json(result, tmp_path):
    for name in (None, "000139", "other", None, "000139"):
        result.save(tmp_path, name=name)
    overlay = np.array(Image.open(tmp_path / "overlays" / "photo.png"))
    assert (overlay == np.array(result.draw())).all()
    png = (tmp_path / "panoptic" / "photo.png").read_bytes()
    assert (decode_segment_png(png, source="") == result.segment_map).all()
    document = json.loads((tmp_path / "panoptic.json").read_text())
    ids = {image["file_name"]: image["id"] for image in document["images"]}
    assert ids == {"other.png": 140, "photo.png": 141, "000139.png": 139}
    assert ids == {a["file_name"]: a["image_id"] for a in document["annotations"]}
    table = CategoryTable.of([{"id": 1, "name": "x", "isthing": 0}])
    with pytest.raises(refine.RefineError, match="of other categories; choose another folder"):
        replace(result, segments=(), categories=table).save(tmp_path)


def test_a_result_is_measured_with_its_own_categories_only(model, result):
    assert repr(result).startswith("<PanopticResult of photo.png, 48 x 60: category")
    quality = refine.PanopticQuality(model.categories)
    quality.update(result, result)
    assert quality.compute()["pq"] == 1
    with pytest.raises(refine.RefineError, match="made with other categories than the metric's"):
        refine.PanopticQuality([{"id": 1, "name": "x", "isthing": 0}]).update(result, result)


def test_predictions_in_some_categories_only(model, checkpoint, photo, result, tmp_path):
    names = [c.name for c in model.categories.categories]
    thing, (first, second) = names[0], names[-2:]
    given = [
        f"data.categories.keep=[{thing}]",
        f"data.categories.merge={{land: [{first}, {second}]}}",
    ]
    where = [f"ckpt_path={checkpoint}", f"source={photo}", f"out={tmp_path}", "device=cpu"]
    predict(compose("predict", [*where, *given]))
    (annotation,) = json.loads((tmp_path / "panoptic.json").read_text())["annotations"]
    ids = decode_segment_png((tmp_path / "panoptic" / "photo.png").read_bytes(), source="")
    kept = {
        s.id: thing if s.name == thing else "land"
        for s in result.segments
        if s.name in {thing, first, second}
    }
    assert "land" in kept.values()
    assert ((ids > 0) == np.isin(result.segment_map, list(kept))).all()
    land = [
        s["id"] for s in annotation["segments_info"] if s["id"] in kept and kept[s["id"]] == "land"
    ]
    assert len(land) == 1
    assert (
        (ids == land[0]) == np.isin(result.segment_map, [k for k, v in kept.items() if v == "land"])
    ).all()
    assert len(annotation["segments_info"]) == list(kept.values()).count(thing) + 1


@pytest.mark.parametrize("has_units", [True, False])
def test_fast_computes_in_bfloat16_where_there_are_units_for_it(
    checkpoint, photo, result, monkeypatch, has_units
):
    monkeypatch.setattr("refine.options.processor.has_half_units", lambda: has_units)
    fast, types = refine.load(checkpoint, device="cpu", fast=True), set()
    features = fast.pipeline.network.semantic_trunk
    features.register_forward_hook(lambda module, args, out: types.add(out.dtype))
    found = fast.predict(photo)
    assert types == {torch.bfloat16 if has_units else torch.float32}
    assert found.segment_map.shape == result.segment_map.shape
    if not has_units:
        assert np.array_equal(found.segment_map, result.segment_map)
