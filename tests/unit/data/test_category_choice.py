"""Categories by choice: everything that reads a dataset sees what files written anew would say."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from make.dataset import run_lengths, write_png
from make.errors import refused
from oracles.categories import relabel_files
from refine.coco_format.annotations import parse_panoptic_json
from refine.coco_format.category_choice import choose_categories
from refine.coco_format.layout import open_dataset
from refine.data.coco_panoptic import CocoPanopticDataset
from refine.data.pairs.occlusion_pairs import OcclusionPairs
from refine.data.pairs.pair_building import build_pairs
from refine.data.pairs.pair_datamodule import OcclusionDataModule
from refine.options import CategoryOptions, DataOptions, ImageOptions
from refine.prediction_cache.header import identify_dataset
from refine.types import PanopticPrediction
from refine.workflows.score_results import score_results

SPLIT, SIZE = "train2017", (24, 30)
NAMES = {  # dataset id, name, whether it is a thing, supercategory
    2: ("car", 1, "vehicle"), 3: ("bus", 1, "vehicle"), 5: ("cat", 1, "animal"),
    9: ("dog", 1, "animal"), 20: ("grass", 0, "ground"), 21: ("road", 0, "ground"),
    30: ("sky", 0, "sky"), 31: ("tree", 0, "plant"),
}  # fmt: skip
CATEGORIES = [
    {"id": i, "name": name, "isthing": thing, "supercategory": kind, "color": [i, i, i]}
    for i, (name, thing, kind) in NAMES.items()
]
ALL = {name: [name] for name, _, _ in NAMES.values()}
CASES = [
    (CategoryOptions(keep=["cat", "sky", "road"]), {n: ALL[n] for n in ("cat", "sky", "road")}),
    (CategoryOptions(keep=["tree"]), {"tree": ["tree"]}),
    (CategoryOptions(merge={"pet": ["dog", "cat"]}), {"pet": ["cat", "dog"]}),
    (
        CategoryOptions(keep=["car"], merge={"green": ["tree", "grass"], "pet": ["cat", "dog"]}),
        {"car": ["car"], "green": ["grass", "tree"], "pet": ["cat", "dog"]},
    ),
    (
        CategoryOptions(by="supercategory"),
        {
            "vehicle": ["car", "bus"], "animal": ["cat", "dog"], "ground": ["grass", "road"],
            "sky": ["sky"], "plant": ["tree"],
        },
    ),
    (
        CategoryOptions(by="supercategory", keep=["ground", "animal"]),
        {"ground": ["grass", "road"], "animal": ["cat", "dog"]},
    ),
    (CategoryOptions(keep=list(ALL)), ALL),
]  # fmt: skip
IDS = ["keep", "one", "merge", "both", "super", "super-keep", "all"]


def _random_files(seed, *, count=4):
    """Contents of a dataset of painted rectangles, stuff below things, some void and crowds."""
    rng = np.random.default_rng(seed)
    images, annotations, outlines, maps = [], [], [], {}
    for k in range(1, count + 1):
        ids, info = np.zeros(SIZE, np.int64), []
        for place, category in enumerate(rng.permutation(list(NAMES)).tolist() * 2):
            is_thing = NAMES[category][1]
            if not is_thing and place >= len(NAMES):
                continue  # stuff has one segment
            top, left = rng.integers(0, SIZE[0] - 6), rng.integers(0, SIZE[1] - 6)
            mask = np.zeros(SIZE, bool)
            mask[top : top + rng.integers(3, 14), left : left + rng.integers(3, 14)] = True
            number, is_crowd = int(rng.integers(1, 2**24)), int(is_thing and rng.random() < 0.2)
            ids[mask] = number
            info.append({"id": number, "category_id": category, "iscrowd": is_crowd})
            if is_thing:
                rows, columns = np.nonzero(mask)
                outlines.append({
                    "id": len(outlines) + 1, "image_id": k, "category_id": category,
                    "iscrowd": is_crowd,
                    "bbox": [int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1,
                             int(np.ptp(rows)) + 1],
                    "segmentation": {"size": list(SIZE), "counts": run_lengths(mask)},
                })  # fmt: skip
        for segment in info:
            segment["area"] = int((ids == segment["id"]).sum())
        maps[f"{k}.png"] = ids
        images.append({"id": k, "file_name": f"{k}.jpg", "height": SIZE[0], "width": SIZE[1]})
        segments = [s for s in info if s["area"]]
        annotations.append({"image_id": k, "file_name": f"{k}.png", "segments_info": segments})
    panoptic = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    return panoptic, maps, {"images": [], "annotations": outlines, "categories": CATEGORIES}


def _write(root, panoptic, maps, instances=None):
    pngs = root / "annotations" / f"panoptic_{SPLIT}"
    pngs.mkdir(parents=True)
    (root / SPLIT).mkdir()
    for name, ids in maps.items():
        write_png(pngs / name, ids)
        Image.new("RGB", SIZE[::-1]).save(root / SPLIT / name.replace("png", "jpg"))
    (root / "annotations" / f"panoptic_{SPLIT}.json").write_text(json.dumps(panoptic))
    if instances is not None:
        (root / "annotations" / f"instances_{SPLIT}.json").write_text(json.dumps(instances))
    return root


def _samples(files, *, training):
    options = ImageOptions(train_short_sides_px=[24, 31], eval_short_side_px=24)
    dataset = CocoPanopticDataset(files, options, training=training)
    return [dataset[k] for k in range(len(dataset))]


def _plain(value):
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.tolist() if hasattr(value, "tolist") else value


@pytest.mark.parametrize(("options", "groups"), CASES, ids=IDS)
def test_samples_are_those_of_files_written_anew(tmp_path, options, groups):
    content = _random_files(seed=1)
    old = open_dataset(_write(tmp_path / "old", *content), SPLIT).choose(options)
    written = relabel_files(content[0], content[1], groups, content[2])
    new = open_dataset(_write(tmp_path / "new", *written), SPLIT)
    assert old.annotations.categories == new.annotations.categories
    for training in (True, False):
        ours, theirs = (_samples(files, training=training) for files in (old, new))
        for mine, yours in zip(ours, theirs, strict=True):
            assert _plain(asdict(mine)) == _plain(asdict(yours))


@pytest.mark.parametrize(("options", "groups"), CASES, ids=IDS)
def test_scores_are_those_of_files_written_anew(tmp_path, options, groups):
    (panoptic, maps, _), (other, predicted, _) = _random_files(1), _random_files(2)
    for k, annotation in enumerate(other["annotations"]):  # half true, half wrong
        name = annotation["file_name"]
        if k % 2:
            predicted[name] = maps[name]
            annotation["segments_info"] = panoptic["annotations"][k]["segments_info"]
    folders = {}
    for name, contents in {
        "gt": (panoptic, maps), "pred": (other, predicted),
        "new_gt": relabel_files(panoptic, maps, groups)[:2],
        "new_pred": relabel_files(other, predicted, groups)[:2],
    }.items():  # fmt: skip
        root = _write(tmp_path / name, *contents)
        folders[name] = root / "annotations" / f"panoptic_{SPLIT}.json"
    ours = score_results(folders["gt"], folders["pred"], options=options)
    theirs = score_results(folders["new_gt"], folders["new_pred"])
    assert ours.metrics == theirs.metrics
    assert ours.rows == theirs.rows
    assert 0 < ours.metrics["pq"] < 1
    assert score_results(folders["gt"], folders["gt"], options=options).metrics["pq"] == 1.0


@pytest.mark.parametrize(("options", "groups"), CASES, ids=IDS)
def test_a_prediction_becomes_what_its_files_written_anew_say(options, groups):
    panoptic, maps, _ = _random_files(1, count=1)
    annotations = parse_panoptic_json(json.dumps(panoptic).encode(), source="a.json")
    choice = choose_categories(annotations.categories, options, source="a.json")
    written, painted, _ = relabel_files(panoptic, maps, groups)
    expected = parse_panoptic_json(json.dumps(written).encode(), source="b.json")
    before = PanopticPrediction(segment_map=maps["1.png"], segments=annotations.segments(0))
    after = choice.apply(before)
    assert after.segments == expected.segments(0)
    assert np.array_equal(after.segment_map, painted["1.png"])
    things = choice.table.num_things
    kinds = f"8 categories became {len(choice.table)} ({things} things, "
    assert choice.describe(annotations.categories).startswith(kinds)


def test_two_choices_of_one_table_are_told_apart(tmp_path):
    files = open_dataset(_write(tmp_path / "a", *_random_files(1)), SPLIT)
    merged = [files.choose(CategoryOptions(merge={"x": ["car", o]})) for o in ("bus", "cat")]
    one, other = (identify_dataset(m.annotations) for m in merged)
    assert one.categories == other.categories
    assert one.difference(other) == "the same image ids, but other images or segments"
    assert files.choose(CategoryOptions()) is files


def test_occlusion_pairs_are_those_of_the_whole_dataset_between_kept_instances(tmp_path):
    root = _write(tmp_path / "a", *_random_files(3, count=12))
    options = DataOptions(
        root=str(root), train_split=SPLIT, val_split=SPLIT, num_workers=0,
        categories=CategoryOptions(keep=["car"], merge={"pet": ["cat", "dog"]}),
    )  # fmt: skip
    files = open_dataset(root, SPLIT)
    every = build_pairs(files, overlap_thresh=0.2)
    category = dict(
        zip(files.instances.ids.tolist(), files.instances.categories.tolist(), strict=True)
    )
    expected = [t for t in every.triples.tolist() if all(category[i] != 1 for i in t)]  # no bus
    datamodule = OcclusionDataModule(options, seed=0, batch_size=2)
    datamodule.prepare_data()
    datamodule.setup("fit")
    pairs = datamodule.train_dataset.pairs
    assert isinstance(pairs, OcclusionPairs)
    assert 0 < len(expected) < len(every)
    assert pairs.triples.tolist() == expected
    assert datamodule.train_pairs.sum() == len(expected)
    assert datamodule.train_pairs.shape == (2, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": ["cta"]}, "has no name 'cta'; did you mean 'cat'?"),
        ({"keep": ["vehicle"]}, "has no name 'vehicle'"),
        ({"by": "supercategory", "keep": ["car"]}, "has no supercategory 'car'"),
        ({"keep": ["cat"], "merge": {"pet": ["cat", "dog"]}}, "'cat' is named twice"),
        ({"keep": ["cat"], "merge": {"cat": ["cat", "dog"]}}, "'cat' is in keep and in merge"),
        ({"merge": {"odd": ["cat", "sky"]}}, "'odd' would unite things and stuff ('cat', 'sky')"),
    ],
)
def test_choices_that_do_not_fit_are_refused(tmp_path, options, message):
    files = open_dataset(_write(tmp_path / "a", *_random_files(1, count=1)), SPLIT)
    with refused(message):
        files.choose(CategoryOptions(**options))
