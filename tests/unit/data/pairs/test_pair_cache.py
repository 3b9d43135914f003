import json
import logging
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from make.dataset import instances_json, panoptic_json, segment_maps, write_png, write_tree
from make.errors import refused
from refine.coco_format.layout import open_dataset
from refine.data.pairs import pair_cache
from refine.data.pairs.pair_cache import ensure_pairs, pairs_path
from refine.options import OcclusionPairsOptions

SPLIT = "train2017"


@pytest.fixture
def root(tmp_path):
    return write_tree(tmp_path / "data", SPLIT, instances=instances_json())


@pytest.fixture(params=["own folder", "named folder"])
def options(request, tmp_path):
    folder = str(tmp_path / "pairs") if request.param == "named folder" else None
    return OcclusionPairsOptions(folder=folder)


@pytest.fixture
def builds(monkeypatch):
    """Notes every time that pairs are built."""
    calls, build = [], pair_cache.build_pairs

    def note(*args, **kwargs):
        calls.append(kwargs["overlap_thresh"])
        return build(*args, **kwargs)

    monkeypatch.setattr(pair_cache, "build_pairs", note)
    return calls


def path_of(root, options):
    return pairs_path(root / "annotations", SPLIT, options)


def ensure(root, options):
    return ensure_pairs(open_dataset(root, SPLIT), path_of(root, options), options)


def test_pairs_are_found_once(root, options, builds, tmp_path):
    first, second = ensure(root, options), ensure(root, options)
    assert builds == [0.2]
    assert first.triples.tolist() == second.triples.tolist() == [[1, 2, 2]]
    assert np.array_equal(first.image_ids, second.image_ids)
    folder = tmp_path / "pairs" if options.folder else root / "annotations"
    (path,) = tmp_path.rglob("*occlusion_pairs*")
    assert path == folder / "occlusion_pairs_train2017.json"
    stored = json.loads(path.read_text())
    assert stored["source"]["overlap_thresh"] == 0.2
    assert stored["pairs"] == {"1": [[1, 2, 2]]}


def change_json(folder, kind):
    path = folder / f"{kind}_{SPLIT}.json"
    path.write_text(path.read_text() + " ")


def change_png(folder):
    ids = segment_maps()[1]
    car, cat = ids[2, 1], ids[6, 3]
    ids[4:6, 3:5] = car  # now the car is on top,
    ids[[2, 3, 2, 3], [1, 2, 3, 4]] = cat  # and the areas are the same
    write_png(folder / f"panoptic_{SPLIT}" / "0001.png", ids)


@pytest.mark.parametrize(
    ("change", "thresh", "name", "expected"),
    [
        (partial(change_json, kind="panoptic"), 0.2, "panoptic_json", [[1, 2, 2]]),
        (partial(change_json, kind="instances"), 0.2, "instances_json", [[1, 2, 2]]),
        (change_png, 0.2, "png_sizes", [[1, 2, 1]]),
        (lambda folder: None, 0.9, "overlap_thresh", []),
    ],
)
def test_what_is_out_of_date_is_built_again(
    root, options, builds, change, thresh, name, expected, caplog
):
    ensure(root, options)
    change(root / "annotations")
    options = replace(options, overlap_thresh=thresh)
    with caplog.at_level(logging.WARNING):
        pairs = ensure(root, options)
    assert f"out of date ({name} changed)" in caplog.text
    assert pairs.triples.tolist() == expected
    ensure(root, options)
    assert builds == [0.2, thresh]


WRECKS = {
    "other file": lambda content: {"images": []},
    "other version": lambda content: content | {"source": content["source"] | {"version": 0}},
    "unknown key": lambda content: content | {"source": content["source"] | {"more": 0}},
    "no pairs": lambda content: {k: v for k, v in content.items() if k != "pairs"},
    "pair of two": lambda content: content | {"pairs": {"1": [[1, 2]]}},
    "top of neither": lambda content: content | {"pairs": {"1": [[1, 2, 3]]}},
    "text": lambda content: content | {"pairs": {"1": [["a", "b", "a"]]}},
    "list": lambda content: content | {"pairs": [1]},
    "id that is none": lambda content: content | {"pairs": {"x": [[1, 2, 1]]}},
    "no object": lambda content: [],
    "cut short": None,
}


@pytest.mark.parametrize("change", WRECKS.values(), ids=WRECKS)
def test_a_damaged_file_is_built_again_unless_its_folder_was_named(
    root, options, change, builds, caplog
):
    ensure(root, options)
    path = path_of(root, options)
    text = path.read_text()
    path.write_text(json.dumps(change(json.loads(text))) if change else text[:-9])
    damaged = path.read_text()
    if options.folder:
        with refused(path):
            ensure(root, options)
        assert path.read_text() == damaged
        return
    with caplog.at_level(logging.WARNING):
        assert ensure(root, options).triples.tolist() == [[1, 2, 2]]
    assert len(builds) == 2
    assert "building it again" in caplog.text


def test_pairs_of_another_dataset(root, options, tmp_path, builds):
    content = panoptic_json()
    for key in ("images", "annotations"):
        content[key] = content[key][:2]
    other = write_tree(tmp_path / "other", SPLIT, panoptic=content, instances=instances_json())
    ensure(other, options)
    if options.folder:
        with refused("with other images; remove it, or set data.occ"):
            ensure(root, options)
        return
    path_of(other, options).replace(path_of(root, options))
    ensure(root, options)
    assert len(builds) == 2


def test_a_folder_that_cannot_be_written_is_one_line(root, options, builds, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    for module, name in ((pair_cache.tempfile, "TemporaryFile"), (pair_cache, "write_text")):
        assert not builds  # the folder is tried before the work, not after it
        with monkeypatch.context() as patched:
            patched.setattr(module, name, refuse)
            with refused("Permission denied", "data.occlusion_pairs.folder"):
                ensure(root, options)
        assert not path_of(root, options).exists()
    ensure(root, options)
    monkeypatch.setattr(pair_cache.tempfile, "TemporaryFile", refuse)
    assert len(ensure(root, options)) == 1  # nothing has to be written


def test_what_is_missing_or_no_folder_is_named(root, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in ("file", "file/pairs"):
        with refused("data.occlusion_pairs.folder"):
            ensure(root, OcclusionPairsOptions(folder=str(tmp_path / folder)))
    (root / "annotations" / f"panoptic_{SPLIT}" / "0003.png").unlink()
    plain = write_tree(tmp_path / "plain", SPLIT)
    for tree, word in ((root, "0003.png"), (plain, "no instances JSON")):
        with refused(word):
            ensure(tree, OcclusionPairsOptions())
