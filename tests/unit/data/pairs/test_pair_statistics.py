import math
from dataclasses import replace

import numpy as np
import pytest

from make.dataset import CAR, CAT, instances_json, write_tree
from make.pictures import rectangles
from refine.coco_format.layout import open_dataset
from refine.data.pairs.occlusion_pairs import OcclusionPairs, OrderedPair
from refine.data.pairs.pair_statistics import detection_scores, outline_areas

PAIRS = OcclusionPairs.from_images({1: [OrderedPair(1, 2, 2)]})
NONE = OcclusionPairs.from_images({})


@pytest.fixture
def files(tmp_path):
    return open_dataset(write_tree(tmp_path, instances=instances_json()), "train2017")


def raw_of(*detections, scale=1.0):
    """Detections ``(box, label, score)`` of image 1; ``scale`` is network over original size."""
    boxes, labels, scores = zip(*detections, strict=True) if detections else ([], [], [])
    raw = rectangles(*boxes, size=(8, 12), labels=labels, scores=scores)
    return replace(raw, boxes=raw.boxes * scale, image_size=(int(8 * scale), int(12 * scale)))


CAR_BOX, CAT_BOX = [1, 2, 5, 6], [3, 4, 8, 7]


def scores(files, *detections, **kwargs):
    found = detection_scores(files, PAIRS, lambda image_id: raw_of(*detections, **kwargs))
    assert found.shape == (1, 2)
    return [None if math.isnan(s) else round(s, 3) for s in found[0].tolist()]


def test_areas_of_the_full_outlines_and_nothing_of_no_pairs(files):
    assert outline_areas(files, PAIRS).tolist() == [[15, 16]]
    nothing = detection_scores(files, NONE, lambda image_id: pytest.fail("read"))
    assert outline_areas(files, NONE).shape == nothing.shape == (0, 2)
    assert nothing.dtype == np.float64


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_scores_of_the_upper_and_the_lower(files, scale):
    detections = [(CAR_BOX, CAR, 0.9), (CAT_BOX, CAT, 0.6)]
    assert scores(files, *detections, scale=scale) == [0.6, 0.9]


def test_what_is_not_detected_has_no_score(files):
    assert scores(files) == [None, None]
    assert scores(files, (CAR_BOX, CAT, 0.9), (CAT_BOX, CAT, 0.6)) == [0.6, None]
    assert scores(files, ([1, 2, 3, 4], CAR, 0.9)) == [None, None]
    assert scores(files, ([9, 0, 12, 2], CAR, 0.9)) == [None, None]  # a crowd
    # of two the higher score stands for the instance
    assert scores(files, ([1, 2, 5, 5], CAR, 0.7), (CAR_BOX, CAR, 0.5)) == [None, 0.7]
