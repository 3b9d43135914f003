import numpy as np
import pytest
import torch

from refine.metrics.average_precision import AveragePrecision
from refine.ops.outlines import encode_mask
from refine.types import InstanceTruth, MaskCrop

SIZE = (40, 50)


def crop(box):
    x1, y1, x2, y2 = box
    return MaskCrop(y=y1, x=x1, mask=np.ones((y2 - y1, x2 - x1), bool))


def truth(boxes, labels, crowd=None):
    return InstanceTruth(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int64),
        is_crowd=np.array(crowd or [False] * len(boxes), bool),
        masks=tuple(encode_mask(crop(box)) for box in boxes),
    )


def add(metric, boxes, scores, labels, true, masks=None, **kwargs):
    metric.update(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores, dtype=torch.float32),
        labels=torch.tensor(labels, dtype=torch.int64),
        masks=masks if masks is not None else [crop(box) for box in boxes],
        truth=true,
        size=SIZE,
        **kwargs,
    )


def values(metric):
    return {key: value.item() for key, value in metric.compute().items()}


LEFT, RIGHT = [2, 3, 20, 30], [25, 5, 45, 35]
HALF = MaskCrop(y=3, x=2, mask=np.ones((27, 9), bool))  # of LEFT: right at the first threshold


@pytest.mark.parametrize(
    ("detections", "true", "ap_box", "ap_mask"),
    [
        pytest.param(
            ([LEFT, RIGHT], [0.9, 0.8], [0, 1]), ([LEFT, RIGHT], [0, 1]), 1, 1, id="perfect"
        ),
        pytest.param(
            ([LEFT], [0.9], [0], [HALF]), ([LEFT], [0]), 1, 0.1, id="boxes and masks apart"
        ),
        pytest.param(
            ([RIGHT, LEFT], [0.9, 0.8], [0, 0]), ([LEFT], [0]), 0.5, 0.5, id="one wrong before"
        ),
        pytest.param(
            ([[30, 10, 40, 20], LEFT], [0.9, 0.8], [0, 0]),
            ([LEFT, RIGHT], [0, 0], [False, True]), 1, 1, id="detections on a crowd are ignored",
        ),
        pytest.param(([], [], []), ([LEFT], [0]), 0, 0, id="nothing found"),
        pytest.param(([LEFT], [0.9], [0]), ([], []), 0, 0, id="nothing to find"),
        pytest.param(([], [], []), ([], []), 0, 0, id="nothing at all"),
    ],
)  # fmt: skip
def test_average_precision(detections, true, ap_box, ap_mask):
    boxes, scores, labels, *masks = detections
    metric = AveragePrecision()
    add(metric, [RIGHT], [0.9], [0], truth([LEFT], [0]))
    metric.reset()
    add(metric, boxes, scores, labels, truth(*true), *masks)
    # neither images with nothing to find and nothing found, nor padding, count
    add(metric, [], [], [], truth([], []))
    add(metric, [], [], [], truth([RIGHT], [0]), is_padding=True)
    add(metric, [RIGHT], [0.95], [0], truth([], []), is_padding=True)
    assert values(metric) == pytest.approx({"ap_box": ap_box, "ap_mask": ap_mask})
