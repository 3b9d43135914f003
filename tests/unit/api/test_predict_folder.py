"""``refine.predict`` on folders: of every kind of image, interrupted, by several processes."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

import refine
from make.commands import predict
from make.errors import refused
from refine.coco_format.png import decode_segment_png
from refine.config import compose
from refine.workflows.fuse_results import fuse_results


@pytest.fixture(scope="module")
def model(checkpoint):
    return refine.load(checkpoint, device="cpu")


@pytest.fixture
def frames(tmp_path):
    """Five images of two sizes."""
    folder = tmp_path / "frames"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for k in (1, 2, 9, 10, 11):
        pixels = rng.integers(0, 256, (40, 60 - 10 * (k % 2), 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"frame{k}.png")
    return folder


def read_map(path):
    return decode_segment_png(path.read_bytes(), source=str(path))


def read_json(path):
    return json.loads(path.read_text())


def contents(out):
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*.*")}


def write_every_kind(folder):
    """Files that can be read, with what a viewer shows of each; and files that cannot."""
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8))
    (folder / "sub").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(folder / "turned.jpg", exif=exif)
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    photo.convert("L").save(folder / "Grüße, 你好.png")
    photo.quantize(16).save(folder / "palette.png")
    photo.save(folder / "animation.gif", save_all=True, append_images=[photo.rotate(180)])
    photo.save(folder / "photo.webp")
    photo.save(folder / "photo.tif")
    photo.save(folder / "sub" / "photo.bmp")
    photo.resize((1, 1)).save(folder / "one.png")
    Image.new("RGB", (6000, 4000), (90, 160, 40)).save(folder / "large.jpg")
    good = {
        path.relative_to(folder).as_posix(): np.asarray(
            ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        )
        for path in folder.rglob("*.*")
    }
    deep = rng.integers(0, 65536, (40, 60)).astype(np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    good["deep.png"] = np.repeat(np.rint(deep[:, :, None] / 257).astype(np.uint8), 3, axis=2)
    Image.fromarray(np.dstack([photo, np.zeros((40, 60), np.uint8)])).save(folder / "clear.png")
    good["clear.png"] = np.full((40, 60, 3), 255, np.uint8)
    whole = (folder / "turned.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("no image")
    return good, {"cut.jpg", "text.jpg"}


def test_every_kind_of_image_is_predicted_as_a_viewer_shows_it(checkpoint, model, tmp_path, capsys):
    source, out = tmp_path / "all kinds", tmp_path / "out"
    source.mkdir()
    good, bad = write_every_kind(source)
    with refused(f"2 of {len(good) + 2} images left out"):
        predict(out, f"ckpt_path={checkpoint}", f"source={source}")
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out")]
    assert {name for name in bad for line in told if f"{name}: damaged image" in line} == bad
    assert len(told) == len(bad)
    document = read_json(out / "panoptic.json")
    names = {i["id"]: i["file_name"] for i in document["images"]}
    assert set(names.values()) == good.keys()
    for annotation in document["annotations"]:
        shown = good[names[annotation["image_id"]]]
        expected = model.predict(shown)
        assert np.array_equal(
            read_map(out / "panoptic" / annotation["file_name"]), expected.segment_map
        )
        overlay = Image.open(out / "overlays" / annotation["file_name"])
        assert np.array_equal(np.asarray(overlay), np.asarray(expected.draw()))
        assert [s["id"] for s in annotation["segments_info"]] == [s.id for s in expected.segments]


def test_frames_come_in_their_order(checkpoint, frames, tmp_path):
    predict(tmp_path / "out", f"ckpt_path={checkpoint}", f"source={frames}")
    images = read_json(tmp_path / "out" / "panoptic.json")["images"]
    assert [(i["id"], i["file_name"]) for i in images] == [
        (k, f"frame{n}.png") for k, n in enumerate((1, 2, 9, 10, 11), start=1)
    ]


def test_processes_and_batches_change_no_file(checkpoint, model, frames, tmp_path):
    where = [f"ckpt_path={checkpoint}", f"source={frames}", "rle=true"]
    (frames / "frame3.png").write_bytes(b"no image")
    results = []
    for k, more in enumerate(([], ["num_workers=2"])):
        with refused("1 of 6 images left out", "frame3.png"):
            predict(tmp_path / f"{k}", *where, *more)
        results.append(contents(tmp_path / f"{k}"))
    assert results[0] == results[1]
    assert len(results[0]) == 2 * 5 + 3
    with refused("1 of 6 images left out"):
        predict(tmp_path / "batches", *where, "batch_size=3")
    order = [frames / f"frame{k}.png" for k in (1, 2, 9, 10, 11)]
    for path, expected in zip(order, model.predict(order, batch_size=3), strict=True):
        found = read_map(tmp_path / "batches" / "panoptic" / path.name)
        assert np.array_equal(found, expected.segment_map)


def test_an_interrupted_folder_goes_on(checkpoint, frames, tmp_path, monkeypatch):
    where = [f"ckpt_path={checkpoint}", f"source={frames}"]
    predict(tmp_path / "whole", *where)
    out, segment = tmp_path / "out", refine.api.predictor.Predictor.segment
    seen = []

    def count(predictor, inputs, stop_at):
        seen.extend(i.sample.file_name for i in inputs)
        if len(seen) == stop_at:
            raise KeyboardInterrupt
        return segment(predictor, inputs)

    target = "refine.api.predictor.Predictor.segment"
    monkeypatch.setattr(target, lambda predictor, inputs: count(predictor, inputs, 4))
    with pytest.raises(KeyboardInterrupt):
        predict(out, *where)
    assert not (out / "panoptic.json").exists()
    with (out / "progress.jsonl").open("a") as file:
        file.write('{"name": "frame10.p')  # a power cut in the middle of a line
    (out / "overlays" / "frame1.png").unlink()
    os.utime(frames / "frame2.png", ns=(1, 1))  # another file by the same name
    for changed, told in (
        ("fusion.merge.score_thresh=0.9", "fusion.merge.score_thresh=0.2, now 0.9"),
        ("overlay.opacity=0.1", "overlay.opacity=0.55, now 0.1"),
        ("rle=true", "rle=false, now true"),
        ("fast=true", "fast"),
    ):
        with refused("progress.jsonl: an interrupted prediction with", told, "choose another out"):
            predict(out, *where, changed)
    seen.clear()
    monkeypatch.setattr(target, lambda predictor, inputs: count(predictor, inputs, 9))
    predict(out, *where, "num_workers=1")
    assert seen == ["frame1.png", "frame2.png", "frame10.png", "frame11.png"]
    assert contents(out) == contents(tmp_path / "whole")


def test_run_lengths_are_what_refine_fuse_reads(checkpoint, model, frames, tmp_path):
    out = predict(tmp_path / "out", f"ckpt_path={checkpoint}", f"source={frames}", "rle=true")
    paths = [out / f"{n}.json" for n in ("instances", "stuff", "panoptic", "panoptic")]
    names = ("instances", "semantic", "images_json", "categories_json")
    given = [f"{name}={path}" for name, path in zip(names, paths, strict=True)]
    limits = ["fusion.merge.score_thresh=0", "stuff_area_limit_px=1"]
    fuse_results(compose("fuse", [*given, f"out={tmp_path / 'fused'}", *limits]))
    for name in ("frame1.png", "frame10.png"):
        first, second = (
            read_map(folder / "panoptic" / name) for folder in (out, tmp_path / "fused")
        )
        assert np.array_equal(first, second)
    assert any(result["score"] < 1 for result in read_json(out / "instances.json"))


def test_overlays_have_the_chosen_size_and_style_or_are_left_out(
    checkpoint, model, frames, tmp_path
):
    where = [f"ckpt_path={checkpoint}", f"source={frames / 'frame2.png'}"]
    style = ["overlay.longest_side_px=30", "overlay.opacity=0.2", "overlay.outlines=false"]
    out = predict(tmp_path / "out", *where, *style, "labels=false")
    drawn = np.asarray(Image.open(out / "overlays" / "frame2.png"))
    assert drawn.shape == (20, 30, 3)
    result = model.predict(frames / "frame2.png")
    expected = result.draw(labels=False, opacity=0.2, outlines=False, longest_side_px=30)
    assert np.array_equal(drawn, np.asarray(expected))
    assert read_map(out / "panoptic" / "frame2.png").shape == (40, 60)
    assert not (predict(tmp_path / "none", *where, "overlay=null") / "overlays").exists()
    with refused("overlay.opacity=2", "a fraction in [0, 1]"):
        predict(tmp_path / "none", *where, "overlay.opacity=2")


def write_image_info(path, frames, names):
    """COCO's JSON of a test split: no annotations."""
    images = []
    for image_id, name in names.items():
        with Image.open(frames / name.replace(".jpg", ".png")) as image:
            width, height = image.size
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
    path.write_text(json.dumps({"images": images, "categories": []}))


def test_a_split_without_annotations_becomes_a_zip_for_the_server(
    checkpoint, model, frames, tmp_path
):
    info = tmp_path / "image_info_test-dev2017.json"
    write_image_info(info, frames, {70: "frame9.jpg", 40: "frame1.jpg"})
    where = [f"ckpt_path={checkpoint}", f"source={frames}", "submission=Mine-1", "overlay=null"]
    out = predict(tmp_path / "out", *where, f"ids_from={info}")
    name = "panoptic_test-dev2017_Mine-1_results"
    with zipfile.ZipFile(out / f"{name}.zip") as archive:
        pngs = {f"{name}/frame9.png", f"{name}/frame1.png"}
        assert set(archive.namelist()) == {f"{name}.json", *pngs}
        document = json.loads(archive.read(f"{name}.json"))
        assert {a["image_id"]: a["file_name"] for a in document["annotations"]} == {
            70: "frame9.png", 40: "frame1.png",
        }  # fmt: skip
        for annotation in document["annotations"]:
            with archive.open(f"{name}/{annotation['file_name']}") as file:
                ids = np.asarray(Image.open(file)) @ np.array([1, 256, 65536])
            result = model.predict(frames / annotation["file_name"])
            assert np.array_equal(ids, result.segment_map)
            expected = [{"id": s.id, "category_id": s.category_id} for s in result.segments]
            assert annotation["segments_info"] == expected
    write_image_info(info, frames, {70: "frame9.jpg", 40: "frame1.jpg", 50: "frame2.jpg"})
    (frames / "frame2.png").unlink()
    with refused("1 of 3 images have no result, the first one for frame2.png"):
        predict(tmp_path / "out", *where, f"ids_from={info}")
    with refused("ids_from: a submission needs the JSON of the split's images"):
        predict(tmp_path / "out", *where)
    with refused("the split is not in its name"):
        predict(tmp_path / "out", *where, f"ids_from={Path(info).rename(tmp_path / 'x.json')}")
