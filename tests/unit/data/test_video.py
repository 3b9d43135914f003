import gc
import sys
from pathlib import Path

import numpy as np
import pytest

from make.errors import refused
from make.videos import LOSSLESS, SMALL, make_frames, turn_video, write_video
from refine.data.video import count_frames, read_frames

pytest.importorskip("av", reason="the extra video is not installed")


def test_frames_come_in_their_order_as_they_were_written(tmp_path):
    frames = make_frames(25)
    clip = write_video(tmp_path / "clip.mkv", frames, **LOSSLESS)
    found = [*read_frames(clip)]
    assert [number for number, _ in found] == [*range(1, 26)]
    for (_, pixels), expected in zip(found, frames, strict=True):
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, expected)
    some = [*read_frames(str(clip), step=12)]
    assert [number for number, _ in some] == [1, 13, 25]
    assert np.array_equal(some[1][1], frames[12])
    assert (count_frames(clip), count_frames(clip, step=12)) == (25, 3)


@pytest.mark.parametrize(
    ("matrix", "turns"),
    [
        ((1, 0, 0, 1), 0),
        ((0, 1, -1, 0), 3),
        ((-1, 0, 0, -1), 2),
        ((0, -1, 1, 0), 1),
        ((0, 0, 0, 0), 0),
    ],
)
def test_videos_of_phones_are_turned_as_viewers_show_them(tmp_path, matrix, turns):
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:16, :16] = (255, 0, 0)  # red, top left
    pixels[-16:, :16] = (0, 0, 255)  # blue, bottom left
    clip = write_video(tmp_path / "clip.mp4", [pixels] * 3, **SMALL)
    turn_video(clip, matrix)
    expected = np.rot90(pixels, turns).astype(int)  # counterclockwise
    for _, frame in read_frames(clip):
        assert frame.shape == expected.shape
        assert np.abs(frame - expected).mean() < 8


@pytest.mark.parametrize(
    ("name", "share"), [("clip.mp4", 0.6), ("clip.avi", 0.6), ("clip.mp4", 0.75)]
)
def test_of_a_cut_video_what_is_there_is_read(tmp_path, name, share):
    frames = make_frames(30)
    clip = write_video(tmp_path / name, frames, **SMALL, movflags="faststart" * ("mp4" in name))
    whole = [pixels for _, pixels in read_frames(clip)]
    assert len(whole) == 30
    data = clip.read_bytes()
    clip.write_bytes(data[: int(len(data) * share)])
    found = []
    with refused(f"{clip}: damaged or cut off after frame", "get the file again") as refusal:
        found.extend(read_frames(clip))
    with refused(f"after frame {len(found)} "):
        raise refusal.value
    assert 5 < len(found) < 30
    for (_, pixels), expected in zip(found[:-1], whole, strict=False):
        assert np.array_equal(pixels, expected)


def test_what_is_no_video_is_one_line(tmp_path, monkeypatch):
    clip = write_video(tmp_path / "clip.mp4", make_frames(9), **SMALL)  # its list is at the end
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[:-400])
    (tmp_path / "text.mp4").write_text("no video\n" * 99)
    (tmp_path / "empty.avi").touch()
    for name in ("cut.mp4", "text.mp4", "empty.avi", "missing.mkv"):
        for read in (read_frames, count_frames):
            with refused(tmp_path / name):
                read(tmp_path / name)
    with refused(f"{clip}: step=0; expected 1 or more"):
        read_frames(clip, step=0)
    monkeypatch.setitem(sys.modules, "av", None)
    with refused(f"{clip}: videos need the package av; pip install 'refine-panoptic[video]'"):
        read_frames(clip)


def _num_threads():
    return len([*Path("/proc/self/task").iterdir()])


def test_no_frame_keeps_threads(tmp_path):
    clip = write_video(tmp_path / "clip.mp4", make_frames(9, size=(480, 640)), **SMALL)
    before = _num_threads()
    gc.disable()
    try:
        assert len([*read_frames(clip)]) == 9
        assert _num_threads() == before
    finally:
        gc.enable()
