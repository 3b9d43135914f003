import json
import logging

import numpy as np
import pytest

from make.dataset import instances_json, panoptic_json, segment_maps, write_png, write_tree
from refine.coco_format.layout import open_dataset
from refine.data.pairs import pair_cache
from refine.data.pairs.pair_cache import ensure_pairs, pairs_path
from refine.errors import RefineError
from refine.options import OcclusionPairsOptions

SPLIT = "train2017"
OPTIONS = OcclusionPairsOptions()


@pytest.fixture
def root(tmp_path):
    return write_tree(tmp_path / "data", SPLIT, instances=instances_json())


@pytest.fixture
def builds(monkeypatch):
    """Notes every time that pairs are built."""
    calls, build = [], pair_cache.build_pairs

    def note(*args, **kwargs):
        calls.append(kwargs["overlap_thresh"])
        return build(*args, **kwargs)

    monkeypatch.setattr(pair_cache, "build_pairs", note)
    return calls


def ensure(root, options=OPTIONS):
    return ensure_pairs(open_dataset(root, SPLIT), pairs_path(root, SPLIT, options), options)


def test_pairs_are_found_once(root, builds):
    first, second = ensure(root), ensure(root)
    assert builds == [0.2]
    assert first.triples.tolist() == second.triples.tolist() == [[1, 2, 2]]
    assert np.array_equal(first.image_ids, second.image_ids)
    path = root / "annotations" / "occlusion_pairs_train2017.json"
    stored = json.loads(path.read_text())
    assert stored["source"]["overlap_thresh"] == 0.2
    assert stored["pairs"] == {"1": [[1, 2, 2]]}
    assert not list(path.parent.glob(".*"))


def test_a_folder_of_ones_own(root, tmp_path, builds):
    options = OcclusionPairsOptions(folder=str(tmp_path / "other" / "pairs"))
    ensure(root, options)
    ensure(root, options)
    assert builds == [0.2]
    assert (tmp_path / "other" / "pairs" / "occlusion_pairs_train2017.json").is_file()
    assert not (root / "annotations" / "occlusion_pairs_train2017.json").exists()


def change_panoptic(root):
    content = panoptic_json()
    content["annotations"][1]["segments_info"][0]["area"] -= 1
    (root / "annotations" / f"panoptic_{SPLIT}.json").write_text(json.dumps(content))


def change_instances(root):
    content = instances_json()
    content["annotations"][0]["segmentation"] = [[1, 2, 6, 2, 6, 6, 1, 6]]
    (root / "annotations" / f"instances_{SPLIT}.json").write_text(json.dumps(content))


def change_png(root):
    ids = segment_maps()[1]
    ids[4:6, 3:5] = ids[2, 1]  # now the car is on top
    write_png(root / "annotations" / f"panoptic_{SPLIT}" / "0001.png", ids)


@pytest.mark.parametrize("is_named", [False, True])
@pytest.mark.parametrize(
    ("change", "name"),
    [
        (change_panoptic, "panoptic_json"),
        (change_instances, "instances_json"),
        (change_png, "png_sizes"),
    ],
)
def test_what_is_out_of_date_is_built_anew(root, tmp_path, builds, change, name, is_named, caplog):
    options = OcclusionPairsOptions(folder=str(tmp_path / "pairs") if is_named else None)
    ensure(root, options)
    change(root)
    with caplog.at_level(logging.WARNING):
        pairs = ensure(root, options)
    assert len(builds) == 2
    assert f"out of date ({name} changed)" in caplog.text
    assert pairs.triples.tolist() == [[1, 2, 1 if change is change_png else 2]]
    ensure(root, options)
    assert len(builds) == 2


def test_another_threshold_is_another_search(root, builds, caplog):
    ensure(root)
    with caplog.at_level(logging.WARNING):
        assert len(ensure(root, OcclusionPairsOptions(overlap_thresh=0.9))) == 0
    assert builds == [0.2, 0.9]
    assert "overlap_thresh changed" in caplog.text


def wreck(path, how):
    content = json.loads(path.read_text())
    text = {
        "cut short": lambda: path.read_text()[:-9],
        "empty": lambda: "",
        "no object": lambda: "[]",
        "other file": lambda: json.dumps({"images": []}),
        "other version": lambda: json.dumps(
            content | {"source": content["source"] | {"version": 0}}
        ),
        "unknown key": lambda: json.dumps(content | {"source": content["source"] | {"more": 0}}),
        "no pairs": lambda: json.dumps({k: v for k, v in content.items() if k != "pairs"}),
        "pair of two": lambda: json.dumps(content | {"pairs": {"1": [[1, 2]]}}),
        "top of neither": lambda: json.dumps(content | {"pairs": {"1": [[1, 2, 3]]}}),
        "text": lambda: json.dumps(content | {"pairs": {"1": [["a", "b", "a"]]}}),
        "list": lambda: json.dumps(content | {"pairs": [1]}),
        "id that is none": lambda: json.dumps(content | {"pairs": {"x": [[1, 2, 1]]}}),
    }[how]()
    path.write_text(text)


WRECKS = [
    "cut short", "empty", "no object", "other file", "other version", "unknown key", "no pairs",
    "pair of two", "top of neither", "text", "list", "id that is none",
]  # fmt: skip


@pytest.mark.parametrize("how", WRECKS)
def test_a_damaged_file_is_built_anew(root, how, builds, caplog):
    ensure(root)
    wreck(pairs_path(root, SPLIT, OPTIONS), how)
    with caplog.at_level(logging.WARNING):
        assert ensure(root).triples.tolist() == [[1, 2, 2]]
    assert len(builds) == 2
    assert "building it again" in caplog.text


@pytest.mark.parametrize("how", WRECKS)
def test_a_damaged_file_in_a_folder_that_was_named_is_one_line(root, tmp_path, how):
    options = OcclusionPairsOptions(folder=str(tmp_path / "pairs"))
    ensure(root, options)
    path = pairs_path(root, SPLIT, options)
    wreck(path, how)
    damaged = path.read_text()
    with pytest.raises(RefineError) as error:
        ensure(root, options)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert path.read_text() == damaged


@pytest.mark.parametrize("is_named", [False, True])
def test_pairs_of_another_dataset(root, tmp_path, is_named, builds):
    content = panoptic_json()
    for key in ("images", "annotations"):
        content[key] = content[key][:2]
    other = write_tree(tmp_path / "other", SPLIT, panoptic=content, instances=instances_json())
    options = OcclusionPairsOptions(folder=str(tmp_path / "pairs") if is_named else None)
    ensure(other, options)
    if is_named:
        with pytest.raises(RefineError, match=r"with other images; remove it, or set data\.occ"):
            ensure(root, options)
        return
    stored = pairs_path(other, SPLIT, options)
    stored.replace(pairs_path(root, SPLIT, options))
    ensure(root, options)
    assert len(builds) == 2


@pytest.mark.parametrize("is_named", [False, True])
def test_a_folder_that_cannot_be_written_is_one_line_before_the_work(
    root, tmp_path, is_named, builds, monkeypatch
):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pair_cache.tempfile, "TemporaryFile", refuse)
    options = OcclusionPairsOptions(folder=str(tmp_path / "pairs") if is_named else None)
    with pytest.raises(RefineError, match=r"Permission denied.*data.occlusion_pairs.folder") as e:
        ensure(root, options)
    assert "\n" not in str(e.value)
    assert not builds


def test_a_folder_that_is_a_file_is_one_line(root, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in ("file", "file/pairs"):
        options = OcclusionPairsOptions(folder=str(tmp_path / folder))
        with pytest.raises(RefineError, match=r"data\.occlusion_pairs\.folder"):
            ensure(root, options)


def test_a_disk_that_fills_up_leaves_nothing_behind(root, monkeypatch):
    def fill(path, text, **kwargs):
        with path.open("w") as file:
            file.write(text[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pair_cache.Path, "write_text", fill)
    with pytest.raises(RefineError, match="No space left"):
        ensure(root)
    names = [p.name for p in (root / "annotations").iterdir()]
    assert not [name for name in names if "occlusion_pairs" in name]


def test_stored_pairs_are_read_where_nothing_can_be_written(root, monkeypatch):
    ensure(root)
    monkeypatch.setattr(pair_cache, "_require_writable", lambda folder: pytest.fail("asked"))
    assert len(ensure(root)) == 1


def test_a_dataset_without_instances_is_one_line(tmp_path):
    root = write_tree(tmp_path, SPLIT)
    with pytest.raises(RefineError, match="no instances JSON"):
        ensure(root)


def test_a_png_that_is_missing_is_named(root):
    (root / "annotations" / f"panoptic_{SPLIT}" / "0003.png").unlink()
    with pytest.raises(RefineError, match=r"0003.png"):
        ensure(root)
