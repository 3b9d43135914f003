import json
import subprocess
import sys
from dataclasses import replace

import pytest

from make.dataset import DeadlyStorage, instances_json, write_tree
from make.errors import refused
from refine.coco_format.layout import open_dataset
from refine.data.pairs import pair_building
from refine.data.pairs.pair_building import build_pairs


@pytest.fixture
def many_processes(monkeypatch):
    """Also for few images, in small chunks."""
    monkeypatch.setattr(pair_building, "CHUNK", 8)
    monkeypatch.setattr(pair_building, "IMAGES_PER_PROCESS", 1)


@pytest.mark.parametrize(("split", "least"), [("train", 40), ("val", 12)])
def test_toy_pairs_have_the_order_of_the_generator(overlapping_toys, split, least):
    root, _ = overlapping_toys
    files = open_dataset(root, f"{split}2017")
    pairs = build_pairs(files, overlap_thresh=0.2)
    assert len(pairs) >= least
    entries = json.loads((root / "annotations" / f"instances_{split}2017.json").read_text())
    depth = {a["id"]: a["depth"] for a in entries["annotations"]}
    assert all(depth[above] > depth[below] for above, below in pairs.ordered.tolist())


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
        with refused("0001.png: damaged PNG"):
            build_pairs(files, overlap_thresh=0.2, num_processes=num_processes)


def test_a_process_that_dies_is_one_line(tmp_path, many_processes):
    files = open_dataset(write_tree(tmp_path, instances=instances_json()), "train2017")
    deadly = replace(files, pngs=DeadlyStorage(tmp_path))
    with refused("died"):
        build_pairs(deadly, overlap_thresh=0.2, num_processes=2)


def test_what_tells_no_order_is_refused(tmp_path):
    files = open_dataset(write_tree(tmp_path / "plain"), "train2017")
    with refused("panoptic_train2017.json: ", "no occlusion head can be", "need no training"):
        build_pairs(files, overlap_thresh=0.2)
    content = instances_json()
    content["annotations"][3]["id"] = 1
    files = open_dataset(write_tree(tmp_path / "twice", instances=content), "train2017")
    with refused("annotation id 1 occurs twice"):
        build_pairs(files, overlap_thresh=0.2)


def test_searching_starts_no_torch():
    code = "import sys, refine.data.pairs.pair_cache; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
