import json

import pytest
import torch

from make.dataset import CAR, CAT, instances_json, write_tree
from make.scripts import load_script
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
    header = CacheHeader(
        dataset=identify_dataset(annotations),
        form="full",
        panoptic_only=False,
        score_thresh=0.05,
        checkpoint={},
    )
    writer = PredictionWriter(folder, header)
    for image_id, (height, width) in zip(
        annotations.image_ids.tolist(), annotations.sizes.tolist(), strict=True
    ):
        order = sorted(range(2), key=lambda k: -scores[k])
        writer.write(
            image_id,
            RawPrediction(
                boxes=torch.tensor([[1.0, 2, 5, 6], [3, 4, 8, 7]])[order],
                scores=torch.tensor(scores)[order],
                labels=torch.tensor([CAR, CAT])[order],
                mask_logits=torch.zeros(2, 28, 28),
                semantic_logits=torch.zeros(4, 3, 3),
                image_size=(height, width),
                original_size=(height, width),
            ),
        )
    writer.finish(annotations.image_ids.tolist())


@pytest.mark.parametrize(("scores", "share"), [([0.9, 0.6], "0.0%"), ([0.6, 0.9], "100.0%")])
def test_scores_of_a_prediction_cache(root, tmp_path, capsys, scores, share):
    write_predictions(root, tmp_path / "cache", scores)
    assert run(root, "--predictions", tmp_path / "cache") == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.split() == f"higher score over lower {share} of 1 pairs with both detected".split()


def test_predictions_of_other_images_are_one_line(root, tmp_path, capsys):
    other = write_tree(tmp_path / "other", "train2017", instances=instances_json(), size_factor=2)
    write_predictions(other, tmp_path / "cache", [0.9, 0.6])
    assert run(root, "--predictions", tmp_path / "cache") == 1
    assert "predictions of another dataset" in capsys.readouterr().err


def test_bad_input_is_one_line(tmp_path, capsys):
    root = write_tree(tmp_path, "train2017")
    assert run(root) == 1
    err = capsys.readouterr().err.strip()
    assert err.startswith("error: ")
    assert "\n" not in err
    assert "no instances JSON" in err


@pytest.mark.parametrize("thresh", ["2", "-0.1"])
def test_a_threshold_out_of_range_is_one_line(root, thresh, capsys):
    assert run(root, "--overlap-thresh", thresh) == 1
    assert "overlap_thresh" in capsys.readouterr().err
