import json

import pytest
import torch

from make.commands import load_script
from make.dataset import CAR, CAT, instances_json, write_tree
from refine.coco_format.layout import open_dataset
from refine.prediction_cache.cache import PredictionWriter
from refine.prediction_cache.header import CacheHeader, identify_dataset
from refine.types import RawPrediction

script = load_script("build_occlusion_pairs")


@pytest.fixture
def root(tmp_path):
    return write_tree(tmp_path / "data", "train2017", instances=instances_json())


def run(root, *arguments):
    return script.main([str(root), "--splits", "train2017", "--jobs", "1", *map(str, arguments)])


def test_pairs_and_what_they_are_like(root, capsys):
    assert run(root) == 0
    out = capsys.readouterr().out
    path = root / "annotations" / "occlusion_pairs_train2017.json"
    assert f"{path}: 1 pairs in 1 of 3 images" in out
    (line,) = [text for text in out.splitlines() if text.split()[:2] == ["car", "cat"]]
    assert line.split() == ["car", "cat", "1", "0", "1"]
    assert "smaller over larger      100.0% of 1 pairs" in out
    assert "needs detections: --predictions CACHE" in out
    assert json.loads(path.read_text())["pairs"] == {"1": [[1, 2, 2]]}


def test_no_pairs_at_all(root, tmp_path, capsys):
    assert run(root, "--overlap-thresh", "0.9", "--folder", tmp_path / "pairs") == 0
    out = capsys.readouterr().out
    assert "0 pairs in 0 of 3 images" in out
    assert "smaller over larger           - of 0 pairs" in out
    assert (tmp_path / "pairs" / "occlusion_pairs_train2017.json").is_file()


def write_predictions(root, folder, scores):
    """Both instances of image 1 found, with these scores of car and cat."""
    annotations = open_dataset(root, "train2017").annotations
    options = {"form": "full", "panoptic_only": False, "score_thresh": 0.05, "checkpoint": {}}
    header = CacheHeader(dataset=identify_dataset(annotations), **options)
    writer, image_ids = PredictionWriter(folder, header), annotations.image_ids.tolist()
    order = sorted(range(2), key=lambda k: -scores[k])
    for image_id, size in zip(image_ids, annotations.sizes.tolist(), strict=True):
        raw = RawPrediction(
            boxes=torch.tensor([[1.0, 2, 5, 6], [3, 4, 8, 7]])[order],
            scores=torch.tensor(scores)[order],
            labels=torch.tensor([CAR, CAT])[order],
            mask_logits=torch.zeros(2, 28, 28),
            semantic_logits=torch.zeros(4, 3, 3),
            image_size=tuple(size),
            original_size=tuple(size),
        )
        writer.write(image_id, raw)
    writer.finish(image_ids)


@pytest.mark.parametrize(("scores", "share"), [([0.9, 0.6], "0.0%"), ([0.6, 0.9], "100.0%")])
def test_scores_of_a_prediction_cache(root, tmp_path, capsys, scores, share):
    write_predictions(root, tmp_path / "cache", scores)
    assert run(root, "--predictions", tmp_path / "cache") == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.split() == f"higher score over lower {share} of 1 pairs with both detected".split()


def test_bad_input_is_one_line(root, tmp_path, capsys):
    outlines = instances_json()
    del outlines["annotations"][2]  # a mask, whose size would have to grow, too
    other = write_tree(tmp_path / "other", "train2017", instances=outlines, size_factor=2)
    write_predictions(other, tmp_path / "cache", [0.9, 0.6])
    cache = ["--predictions", tmp_path / "cache"]
    for folder, arguments, message in (
        (write_tree(tmp_path / "bare", "train2017"), [], "no instances JSON"),
        (root, cache, "predictions of another dataset"),
        (root, ["--overlap-thresh", "2"], "overlap_thresh"),
        (root, ["--overlap-thresh", "-0.1"], "overlap_thresh"),
    ):
        assert run(folder, *arguments) == 1
        line = capsys.readouterr().err.strip().splitlines()[-1]  # after what was logged
        assert line.startswith("error: ")
        assert message in line
