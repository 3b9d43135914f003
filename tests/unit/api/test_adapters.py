"""Outputs in the forms of Hugging Face's processors and of torchvision's Mask R-CNN."""

import numpy as np
import pytest
import torch

import refine
from make.errors import refused

CATEGORIES = [
    {"id": 200, "name": "rug", "isthing": 0},
    {"id": 17, "name": "cat", "isthing": 1},
    {"id": 18, "name": "dog", "isthing": 1},
    {"id": 91, "name": "sky", "isthing": 0},
]
SEGMENTATION = torch.tensor([[-1, 0, 0, 3], [2, 2, 0, 3], [2, 2, 5, 5]])
INFOS = [
    {"id": 3, "label_id": 0, "was_fused": False, "score": 0.7},
    {"id": 0, "label_id": 2, "was_fused": False, "score": 0.6},
    {"id": 2, "label_id": 1, "was_fused": False, "score": 0.95},
    {"id": 5, "label_id": 3, "was_fused": False, "score": 0.8},
]


def painted(result):
    """The name of every pixel's segment."""
    names = {0: "", **{s.id: s.name for s in result.segments}}
    return [[names[k] for k in row] for row in result.segment_map.tolist()]


EXPECTED = [
    ["", "dog", "dog", "rug"],
    ["cat", "cat", "dog", "rug"],
    ["cat", "cat", "sky", "sky"],
]


def fuse(instances, semantic):
    return refine.fuse_predictions(
        instances, semantic, categories=CATEGORIES, stuff_area_limit_px=1
    )


@pytest.mark.parametrize("form", ["map", "binary maps"])
def test_a_panoptic_result_of_hugging_face_stays_what_it_is(form):
    maps = torch.stack([(info["id"] == SEGMENTATION).float() for info in INFOS])
    result = {"segmentation": SEGMENTATION if form == "map" else maps, "segments_info": INFOS}
    instances, semantic = refine.from_huggingface(result, CATEGORIES)
    assert instances["scores"].tolist() == [0.6, 0.95]
    fused = fuse(instances, semantic)
    assert painted(fused) == EXPECTED
    assert [(s.name, s.score) for s in fused.segments[:2]] == [("cat", 0.95), ("dog", 0.6)]


def test_instances_of_one_processor_and_semantics_of_another():
    result = {"segmentation": SEGMENTATION, "segments_info": INFOS[1:3]}
    instances, semantic = refine.from_huggingface(
        result, CATEGORIES, semantic=torch.zeros(3, 4, dtype=torch.int64)
    )
    rug = [["rug" if name in ("", "rug", "sky") else name for name in row] for row in EXPECTED]
    assert painted(fuse(instances, semantic)) == rug


@pytest.mark.parametrize("segmentation", [None, torch.full((3, 4), -1)])
def test_nothing_found_is_void_or_the_semantics(segmentation):
    result = {"segmentation": segmentation, "segments_info": []}
    instances, semantic = refine.from_huggingface(result, CATEGORIES, semantic=np.full((3, 4), 3))
    assert painted(fuse(instances, semantic)) == [["sky"] * 4] * 3
    if segmentation is None:
        with refused("segmentation: None says nothing of the size"):
            refine.from_huggingface(result, CATEGORIES)
    else:
        assert painted(fuse(*refine.from_huggingface(result, CATEGORIES))) == [[""] * 4] * 3


def test_what_does_not_fit_is_refused():
    with refused("label_id 4 is no position in categories (0 to 3)"):
        infos = [{"id": 1, "label_id": 4}]
        refine.from_huggingface({"segmentation": SEGMENTATION, "segments_info": infos}, CATEGORIES)
    with refused("shape (3, 3, 4); expected [H, W] ids or a mask for each of the 4 segments"):
        maps = SEGMENTATION.expand(3, 3, 4)
        refine.from_huggingface({"segmentation": maps, "segments_info": INFOS}, CATEGORIES)
    with refused("labels: 3 is the id of no category"):
        refine.from_torchvision({"labels": torch.tensor([17, 3])}, CATEGORIES)


def test_torchvision_s_labels_are_ids_of_the_dataset():
    masks = torch.zeros(2, 1, 3, 4)
    masks[0, 0, 1:, :2], masks[1, 0, 0, 1:3] = 0.9, 0.6
    output = {
        "boxes": torch.tensor([[0.0, 1, 2, 3], [1, 0, 3, 1]]),
        "labels": torch.tensor([17, 18]),
        "scores": torch.tensor([0.95, 0.6]),
        "masks": masks,
    }
    instances = refine.from_torchvision(output, CATEGORIES)
    assert instances["labels"].tolist() == [1, 2]
    fused = fuse(instances, np.full((3, 4), 255))
    assert painted(fused) == [
        ["", "dog", "dog", ""],
        ["cat", "cat", "", ""],
        ["cat", "cat", "", ""],
    ]
    nothing = {key: value[:0] for key, value in output.items()}
    assert fuse(refine.from_torchvision(nothing, CATEGORIES), np.full((3, 4), 0)).segments[0].area
