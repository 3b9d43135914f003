"""The dataset doctor finds what the readers refuse, all at once."""

import json

import numpy as np
import pytest
from PIL import Image

from make.commands import run_main
from make.dataset import instances_json, panoptic_json, segment_maps, write_png, write_tree
from make.errors import refused
from refine.config import compose
from refine.workflows.check_dataset import check, check_split


def _settings(root, *overrides):
    given = [f"data.root={root}", "splits=[val2017]", "data.num_workers=1", *overrides]
    return compose("check", given)


def test_a_sound_dataset_has_statistics_and_no_problem(tmp_path, capsys):
    root = write_tree(tmp_path / "d", "val2017", instances=instances_json())
    target = tmp_path / "out.json"
    assert check(_settings(root, f"json={target}")) == 0
    content = json.loads(target.read_text())["val2017"]
    assert content["problems"] == []
    maps = segment_maps().values()
    assert content["statistics"] == {
        "images": 3, "segments": 6, "crowds": 1, "instances": 4, "things": 2, "stuff": 2,
        "segments_by_category": {"car": 3, "cat": 1, "grass": 1, "sky": 1},
        "height_px": {"min": 5.0, "median": 8.0, "max": 10.0},
        "width_px": {"min": 5.0, "median": 6.0, "max": 12.0},
        "void_share": sum((m == 0).sum() for m in maps) / sum(m.size for m in maps),
        "overlapping_pairs": 1,  # 4 pixels of the car's 16 and the cat's 15
    }  # fmt: skip
    assert "val2017: no problem found" in capsys.readouterr().out


def _spoil(root):
    """Problems of ten kinds; how many of each."""
    annotations = root / "annotations"
    panoptic, instances = panoptic_json(), instances_json()
    panoptic["annotations"][0]["segments_info"][1]["area"] += 5  # grass
    panoptic["annotations"][1]["segments_info"][0]["category_id"] = 77
    instances["annotations"][0]["bbox"] = [0, 0, 1, 1]
    instances["annotations"][1]["segmentation"] = []
    instances["annotations"][3]["id"] = 1
    for name, content in (("panoptic", panoptic), ("instances", instances)):
        (annotations / f"{name}_val2017.json").write_text(json.dumps(content))
    first = segment_maps()[1]
    first[0, 0] = 12345
    write_png(annotations / "panoptic_val2017" / "0001.png", first)
    (annotations / "panoptic_val2017" / "0003.png").write_bytes(b"no PNG")
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (12, 8)).save(root / "val2017" / "0001.jpg", exif=exif)
    (root / "val2017" / "0002.jpg").unlink()
    return {
        "segments_info[] 'category_id': add it to 'categories'": 1,
        "instances have no outline": 1,
        "outlines do not fit their own 'bbox'": 1,
        "annotations[] 'id' occurs twice": 1,
        "an EXIF orientation that may be meant or not": 1,
        "a segment id in the PNG only": 2,  # 12345, and the sky, whose entry cannot be used
        "another area than pixels": 1,
        "a segment of a thing without an outline": 1,
        "an image that cannot be used": 1,
        "a PNG that cannot be used": 1,
    }


def test_every_problem_is_counted_and_named(tmp_path, capsys):
    root = write_tree(tmp_path / "d", "val2017", instances=instances_json())
    expected = _spoil(root)
    found = check_split(_settings(root), "val2017").findings
    assert found.counts == expected
    for kind, examples in found.examples.items():
        assert all(str(root) in line or ".../" in line for line in examples), kind
        assert all("; " in line for line in examples), kind
    with refused(f"val2017: {sum(expected.values())} problems of {len(expected)} kinds"):
        check(_settings(root))
    printed = capsys.readouterr().out
    assert all(f"{count} x {kind}" in printed for kind, count in expected.items())
    with refused("val2017: 4 problems of 4 kinds"):
        check(_settings(root, "pixels=false"))


@pytest.mark.parametrize("num_workers", [0, 3])
def test_many_problems_of_a_kind_have_three_examples(tmp_path, num_workers):
    root = write_tree(tmp_path / "d", "val2017")
    for i, ids in segment_maps().items():
        noisy = ids.copy()
        noisy.flat[:4] = np.arange(4) + 500
        write_png(root / "annotations" / "panoptic_val2017" / f"{i:04d}.png", noisy)
    found = check_split(_settings(root, f"data.num_workers={num_workers}"), "val2017").findings
    assert found.counts == {"a segment id in the PNG only": 12, "another area than pixels": 3}
    assert len(found.examples["a segment id in the PNG only"]) == 3


def test_a_split_that_is_missing_is_a_problem_and_the_exit_code_1(tmp_path, capfd):
    root = write_tree(tmp_path / "d", "val2017")
    code = run_main("check", f"data.root={root}", "data.num_workers=1", cwd=tmp_path)
    out, err = capfd.readouterr()
    assert code == 1
    assert "1 x cannot be opened" in out
    assert "neither annotations/panoptic_train2017.json nor" in out
    assert err.strip().splitlines()[-1].startswith("error: ")
