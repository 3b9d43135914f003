import json
import re
from dataclasses import replace

import pytest

from make.errors import refused
from make.predictions import IDS, SMALL, a_header, fake_prediction, write_all
from refine.coco_format.annotations import parse_panoptic_json
from refine.options import FusionOptions, MergeOptions, RelationsOptions
from refine.prediction_cache.cache import PredictionReader, PredictionWriter
from refine.prediction_cache.header import hash_image_ids, identify_dataset


@pytest.mark.parametrize("content", [None, "", "[]", '{"images": []}', "\xff"])
def test_a_folder_that_is_no_cache(tmp_path, content):
    if content is not None:
        (tmp_path / "header.json").write_text(content, encoding="latin1")
    with refused(tmp_path, "no prediction cache"):
        PredictionReader(tmp_path)
    with refused(tmp_path / "nowhere", "no such folder", "save_predictions"):
        PredictionReader(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, ("version 2", "reads version 1", "again")),
        ({"form": "tiny"}, ("damaged",)),
        ({"dataset": {}}, ("damaged",)),
        ({"unknown": 1}, ("damaged",)),
    ],
)
def test_a_cache_of_another_version_or_a_damaged_header(cache, change, words):
    content = json.loads((cache / "header.json").read_text())
    (cache / "header.json").write_text(json.dumps(content | change))
    for attempt in (lambda: PredictionReader(cache), lambda: PredictionWriter(cache, a_header())):
        with refused(cache, *words):
            attempt()


def test_a_cache_of_another_dataset(cache):
    reader, dataset = PredictionReader(cache), a_header().dataset
    reader.require_dataset(replace(dataset, name="moved.json"))
    with refused(cache, "another dataset than mine.json", "other images (3, not 500)"):
        reader.require_dataset(replace(dataset, name="mine.json", image_ids="x", num_images=500))


def fusion(kind="score", *, panoptic_only=False, score_thresh=0.5, **relations):
    return FusionOptions(
        panoptic_only=panoptic_only,
        relations=RelationsOptions(kind=kind, **relations),
        merge=MergeOptions(score_thresh=score_thresh),
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (fusion(panoptic_only=True), ("panoptic_only=False",)),
        (fusion("srm", head="soft"), ("no ranking head 'soft'", "srm")),
        (fusion("occlusion", head="srm"), ("no occlusion head 'srm'", "soft")),
        (fusion("soft_occlusion", head="soft", score_thresh=0.29), ("score_thresh >= 0.3",)),
        (fusion("occlusion", head="soft", overlap_thresh=0.04), ("overlap_thresh >= 0.05",)),
    ],
)
def test_settings_that_the_cache_cannot_answer(tmp_path, options, words):
    header = a_header(occlusion_heads=("soft",), ranking_heads=("srm",))
    raws = {i: fake_prediction(**SMALL, heads=("soft",), rankings=("srm",)) for i in IDS}
    write_all(tmp_path, header, raws)
    reader = PredictionReader(tmp_path)
    with refused(tmp_path, *words, "save_predictions"):
        reader.require_fusion(options)
    for fine in (
        fusion("srm", head="srm", score_thresh=0.0),
        fusion("soft_occlusion", head="soft", score_thresh=0.3, overlap_thresh=0.05),
        fusion("area", score_thresh=0.0, overlap_thresh=0.0),
    ):
        reader.require_fusion(fine)


def test_panoptic_only_predictions_belong_to_one_score_threshold(tmp_path, raws):
    write_all(tmp_path, a_header(panoptic_only=True, score_thresh=0.5), raws)
    reader = PredictionReader(tmp_path)
    reader.require_fusion(fusion(panoptic_only=True))
    for options in (fusion(), fusion(panoptic_only=True, score_thresh=0.6)):
        with refused(tmp_path, "panoptic_only"):
            reader.require_fusion(options)


def some_annotations(*, source="a/panoptic_val.json", ids=(5, 2), area=9, name="thing"):
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 4, "width": 6} for i in ids]
    segment = {"id": 1, "category_id": 3, "area": area, "iscrowd": 0, "bbox": [0, 0, 1, 1]}
    entries = [{"image_id": i, "file_name": f"{i}.png", "segments_info": [segment]} for i in ids]
    categories = [{"id": 3, "name": name, "isthing": 1, "color": [1, 2, 3]}]
    document = {"images": images, "annotations": entries, "categories": categories}
    return parse_panoptic_json(json.dumps(document).encode(), source=source)


def test_a_dataset_is_known_by_its_content():
    known = identify_dataset(some_annotations())
    assert (known.name, known.num_images) == ("panoptic_val.json", 2)
    moved = identify_dataset(some_annotations(source="b/other.json"))
    assert known.difference(moved) is None
    for changed, words in (
        (some_annotations(ids=(2, 5)), "other images"),
        (some_annotations(ids=(5, 2, 1)), r"other images \(3, not 2\)"),
        (some_annotations(area=8), "the same image ids"),
        (some_annotations(name="else"), "other categories"),
    ):
        assert re.search(words, known.difference(identify_dataset(changed)))
    part = identify_dataset(some_annotations(), [2])
    assert (part.num_images, part.image_ids) == (1, hash_image_ids([2]))
    assert part.difference(identify_dataset(some_annotations(ids=(2,)))) is None
    assert part.difference(known) is not None
