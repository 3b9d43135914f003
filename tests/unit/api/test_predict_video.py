"""``refine.predict`` on a video."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

import refine
from make.commands import predict
from make.errors import refused
from make.videos import LOSSLESS, SMALL, make_frames, write_video
from refine.coco_format.png import decode_segment_png

COUNT = 7


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    pytest.importorskip("av", reason="the extra video is not installed")
    path = tmp_path_factory.mktemp("clips") / "my clip.mkv"
    return write_video(path, make_frames(COUNT), **LOSSLESS)


def contents(out):
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*.*")}


@pytest.mark.parametrize("more", [[], ["frame_step=3", "num_workers=1"]])
def test_every_frame_has_the_results_of_a_photo(checkpoint, clip, tmp_path, more):
    out = predict(tmp_path / "out", f"ckpt_path={checkpoint}", f"source={clip}", *more)
    numbers = [1, 4, 7] if more else [*range(1, COUNT + 1)]
    names = [f"my clip_{number:06d}.png" for number in numbers]
    document = json.loads((out / "panoptic.json").read_text())
    assert [(i["id"], i["file_name"]) for i in document["images"]] == [*zip(numbers, names)]  # noqa: B905
    assert {p.name for p in (out / "overlays").iterdir()} == {*names}
    model, frames = refine.load(checkpoint, device="cpu"), make_frames(COUNT)
    for number, name in zip(numbers, names, strict=True):
        expected = model.predict(frames[number - 1])
        found = decode_segment_png((out / "panoptic" / name).read_bytes(), source=name)
        assert np.array_equal(found, expected.segment_map)
        overlay = np.asarray(Image.open(out / "overlays" / name))
        assert np.array_equal(overlay, np.asarray(expected.draw()))


def test_an_interrupted_video_goes_on_and_few_frames_are_in_memory(
    checkpoint, clip, tmp_path, monkeypatch
):
    where = [f"ckpt_path={checkpoint}", f"source={clip}"]
    predict(tmp_path / "whole", *where)
    segment, seen, decoded = refine.Predictor.segment, [], []

    def read(video, step):
        return (decoded.append(frame[0]) or frame for frame in refine.read_frames(video, step=step))

    def stop(predictor, inputs):
        seen.extend(i.sample.file_name for i in inputs)
        assert len(seen) == len(decoded)  # no frame is decoded before its turn
        if len(seen) == stop_at:
            raise KeyboardInterrupt
        return segment(predictor, inputs)

    monkeypatch.setattr("refine.workflows.predict_images.read_frames", read)
    monkeypatch.setattr(refine.Predictor, "segment", stop)
    stop_at = 4
    with pytest.raises(KeyboardInterrupt):
        predict(tmp_path / "out", *where)
    stop_at = 0
    decoded.clear()
    del seen[3]
    predict(tmp_path / "out", *where)
    assert seen[3:] == [f"my clip_{number:06d}.png" for number in (4, 5, 6, 7)]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_cut_video_leaves_the_results_of_its_frames(checkpoint, clip, tmp_path, capsys):
    cut = write_video(tmp_path / "cut.mp4", make_frames(COUNT), **SMALL, movflags="faststart")
    cut.write_bytes(cut.read_bytes()[:-12000])
    out = tmp_path / "out"
    with refused(f"{cut}: damaged or cut off after frame"):
        predict(out, f"ckpt_path={checkpoint}", f"source={cut}")
    images = json.loads((out / "panoptic.json").read_text())["images"]
    assert 0 < len(images) < COUNT
    assert f"{len(images)} images; overlays:" in capsys.readouterr().out
    assert not (out / "progress.jsonl").exists()


def test_what_a_video_does_not_take_is_refused_at_once(checkpoint, clip, tmp_path, monkeypatch):
    where = [tmp_path / "out", f"ckpt_path={checkpoint}"]
    with refused("ids_from, submission: frames have their numbers as ids"):
        predict(*where, f"source={clip}", "ids_from=val.json")
    with refused("frame_step=2: source= is no video"):
        predict(*where, f"source={clip.parent}", "frame_step=2")
    with refused("frame_step=0: expected 1 or more"):
        predict(*where, f"source={clip}", "frame_step=0")
    with refused("missing.mp4: no readable video", "No such file"):
        predict(*where, "source=missing.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with refused("pip install 'refine-panoptic[video]'"):
        predict(*where, f"source={clip}")
    assert not (tmp_path / "out").exists()
