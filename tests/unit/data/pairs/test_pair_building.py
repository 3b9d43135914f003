import json
import subprocess
import sys
from dataclasses import replace
from itertools import combinations

import pytest

from make.dataset import DeadlyStorage, instances_json, write_tree
from refine.coco_format.layout import open_dataset
from refine.data.pairs import pair_building
from refine.data.pairs.pair_building import build_pairs
from refine.errors import RefineError
from refine.toy.scene import generate_scene


@pytest.fixture
def many_processes(monkeypatch):
    """Also for few images, in small chunks."""
    monkeypatch.setattr(pair_building, "CHUNK", 8)
    monkeypatch.setattr(pair_building, "IMAGES_PER_PROCESS", 1)


@pytest.mark.parametrize(("split", "least"), [("train", 40), ("val", 12)])
def test_toy_pairs_are_those_of_the_generator_in_its_order(overlapping_toys, split, least):
    root, options = overlapping_toys
    files = open_dataset(root, f"{split}2017")
    pairs = build_pairs(files, overlap_thresh=0.2)
    assert len(pairs) >= least
    entries = json.loads((root / "annotations" / f"instances_{split}2017.json").read_text())
    depth = {a["id"]: a["depth"] for a in entries["annotations"]}
    num_clear = 0
    for index, image_id in enumerate(files.annotations.image_ids.tolist()):
        found = {(depth[a], depth[b]) for a, b in pairs.of_image(image_id).tolist()}
        assert all(above > below for above, below in found)
        clear = clear_pairs(generate_scene(options, split, index))
        num_clear += len(clear)
        # between outline and mask lie a few pixels at the edge
        assert clear <= found
    assert num_clear >= 0.8 * len(pairs)


def clear_pairs(scene):
    """(depth above, depth below) of things with a quarter of either in the other."""
    clear = set()
    for far, near in combinations([t for t in scene.objects if not t.is_crowd], 2):
        both = far.mask & near.mask
        shows = (both & near.visible).sum()
        others = [(both & t.visible).sum() for t in scene.objects if t is not near]
        least = 0.25 * min(far.mask.sum(), near.mask.sum())
        if both.sum() >= least and shows > 1.3 * max(others):
            clear.add((near.depth, far.depth))
    return clear


def test_the_number_of_processes_does_not_change_the_pairs(overlapping_toys, many_processes):
    files = open_dataset(overlapping_toys[0], "train2017")
    found, done = [], ([], [])
    for num_processes, counts in enumerate(done, start=1):
        pairs = build_pairs(
            files, overlap_thresh=0.2, num_processes=num_processes, progress=counts.append
        )
        found.append((pairs.image_ids.tolist(), pairs.triples.tolist()))
    assert done[0] == done[1] == [8] * 4 + [6]
    assert found[0] == found[1]
    assert len(found[0][0]) > 20


def test_small_splits_start_no_process(overlapping_toys, monkeypatch):
    monkeypatch.setattr(pair_building, "ProcessPoolExecutor", lambda *_, **__: pytest.fail("start"))
    files = open_dataset(overlapping_toys[0], "val2017")
    assert len(build_pairs(files, overlap_thresh=0.2, num_processes=8)) > 0


def test_a_damaged_file_is_one_line_also_out_of_a_process(tmp_path, many_processes):
    root = write_tree(tmp_path, instances=instances_json())
    png = root / "annotations" / "panoptic_train2017" / "0001.png"
    png.write_bytes(png.read_bytes()[:40])
    files = open_dataset(root, "train2017")
    for num_processes in (1, 2):
        with pytest.raises(RefineError, match=r"\A.*0001.png: damaged PNG[^\n]*\Z"):
            build_pairs(files, overlap_thresh=0.2, num_processes=num_processes)


def test_a_process_that_dies_is_one_line(tmp_path, many_processes):
    files = open_dataset(write_tree(tmp_path, instances=instances_json()), "train2017")
    deadly = replace(files, pngs=DeadlyStorage(tmp_path))
    with pytest.raises(RefineError, match="died"):
        build_pairs(deadly, overlap_thresh=0.2, num_processes=2)


def test_what_tells_no_order_is_refused(tmp_path):
    files = open_dataset(write_tree(tmp_path / "plain"), "train2017")
    expected = "panoptic_train2017.json: .*no occlusion head can be trained.*need no training"
    with pytest.raises(RefineError, match=rf"\A.*{expected}[^\n]*\Z"):
        build_pairs(files, overlap_thresh=0.2)
    content = instances_json()
    content["annotations"][3]["id"] = 1
    files = open_dataset(write_tree(tmp_path / "twice", instances=content), "train2017")
    with pytest.raises(RefineError, match="annotation id 1 occurs twice"):
        build_pairs(files, overlap_thresh=0.2)


def test_searching_starts_no_torch():
    code = "import sys, refine.data.pairs.pair_cache; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
