import math

import numpy as np
import pytest
import torch

from make.dataset import CAR, CAT, instances_json, write_tree
from refine.coco_format.layout import open_dataset
from refine.data.pairs.occlusion_pairs import OcclusionPairs, OrderedPair
from refine.data.pairs.pair_statistics import detection_scores, outline_areas
from refine.types import RawPrediction

PAIRS = OcclusionPairs.from_images({1: [OrderedPair(1, 2, 2)]})
NONE = OcclusionPairs.from_images({})


@pytest.fixture
def files(tmp_path):
    return open_dataset(write_tree(tmp_path, instances=instances_json()), "train2017")


def raw_of(*detections, scale=1.0):
    """Detections ``(box, label, score)`` of image 1; ``scale`` is network over original size."""
    boxes, labels, scores = zip(*detections, strict=True) if detections else ([], [], [])
    count = len(detections)
    return RawPrediction(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4) * scale,
        labels=torch.tensor(labels, dtype=torch.int64),
        scores=torch.tensor(scores, dtype=torch.float32),
        mask_logits=torch.zeros(count, 28, 28),
        semantic_logits=torch.zeros(4, 2, 3),
        image_size=(int(8 * scale), int(12 * scale)),
        original_size=(8, 12),
    )


CAR_BOX, CAT_BOX = [1, 2, 5, 6], [3, 4, 8, 7]


def scores(files, *detections, **kwargs):
    found = detection_scores(files, PAIRS, lambda image_id: raw_of(*detections, **kwargs))
    assert found.shape == (1, 2)
    return [None if math.isnan(s) else round(s, 3) for s in found[0].tolist()]


def test_areas_of_the_full_outlines(files):
    assert outline_areas(files, PAIRS).tolist() == [[15, 16]]
    assert outline_areas(files, NONE).shape == (0, 2)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_scores_of_the_upper_and_the_lower(files, scale):
    detections = [(CAR_BOX, CAR, 0.9), (CAT_BOX, CAT, 0.6)]
    assert scores(files, *detections, scale=scale) == [0.6, 0.9]


def test_what_is_not_detected_has_no_score(files):
    assert scores(files) == [None, None]
    assert scores(files, (CAR_BOX, CAT, 0.9), (CAT_BOX, CAT, 0.6)) == [0.6, None]
    assert scores(files, ([1, 2, 3, 4], CAR, 0.9)) == [None, None]


def test_of_two_detections_the_higher_score_stands_for_the_instance(files):
    assert scores(files, ([1, 2, 5, 5], CAR, 0.7), (CAR_BOX, CAR, 0.5)) == [None, 0.7]


def test_crowds_are_not_detected(files):
    assert scores(files, ([9, 0, 12, 2], CAR, 0.9)) == [None, None]


def test_no_pairs_ask_for_no_prediction(files):
    found = detection_scores(files, NONE, lambda image_id: pytest.fail("read"))
    assert found.shape == (0, 2)
    assert found.dtype == np.float64
