"""Which images are drawn for W&B, and when."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from make.pictures import CAT, CATEGORIES, rectangles, truth
from refine.callbacks.wandb_media import DECISIONS_KEY, ITERATIONS_KEY, PANOPTIC_KEY, WandbMedia
from refine.callbacks.wandb_run import TABLE_KEY, WandbRun
from refine.fusion.evidence import Evidence
from refine.fusion.fuse_evidence import fuse
from refine.metrics.functional import PanopticStats
from refine.metrics.quality_table import category_rows
from refine.options import FusionOptions
from refine.types import IterationTrace, Sample

SIZE = (8, 12)
BOX = (0, 0, 8, 8)


def a_module(iterations=0):
    """What the callback reads of a detector's module."""
    network = SimpleNamespace(num_iterations=iterations, trace=trace)
    return SimpleNamespace(
        is_final_evaluation=False,
        pipeline=SimpleNamespace(fusion=FusionOptions(), network=network),
        evaluation=SimpleNamespace(quality=SimpleNamespace(categories=CATEGORIES)),
        result=SimpleNamespace(rows=category_rows(PanopticStats.zeros(3), CATEGORIES)),
    )


class Recorder(WandbRun):
    """Keeps what is logged instead of logging it."""

    def __init__(self):
        super().__init__("nowhere")
        self.logged = {}

    def log_table(self, key, columns, *_, **__):
        self.logged[key] = columns

    def log_image(self, key, images, *, caption, **_):
        assert len({image.shape for image in images}) == 1
        self.logged[key] = caption


def trace(batch):
    raw = rectangles(BOX, size=SIZE)
    return [[IterationTrace(raw=raw, canvas=torch.zeros(2, 2, 3))]] * len(batch.samples)


def sample(image_id, *, has_truth=True, is_padding=False):
    return Sample(
        image=torch.zeros(3, *SIZE, dtype=torch.uint8),
        image_id=image_id,
        file_name=f"{image_id}.jpg",
        original_size=SIZE,
        truth=truth(np.ones(SIZE), {1: CAT}) if has_truth else None,
        is_padding=is_padding,
    )


def a_trainer(**changes):
    values = {"sanity_checking": False, "is_global_zero": True, "current_epoch": 0}
    return SimpleNamespace(**{"loggers": [Recorder()], "global_step": 7} | values | changes)


def validate(callback, trainer, module, *batches, boxes=(BOX,)):
    """What was logged in this validation."""
    trainer.loggers[0].logged.clear()
    raw = rectangles(*boxes, size=SIZE)
    evidence = Evidence(raw, num_things=2)
    output = evidence, fuse(evidence, FusionOptions(), stuff_area_limit_px=0)
    callback.on_validation_start()
    for samples in batches:
        outputs, batch = {"outputs": [output for _ in samples]}, SimpleNamespace(samples=samples)
        callback.on_validation_batch_end(trainer, module, outputs, batch, 0)
    callback.on_validation_end(trainer, module)
    return trainer.loggers[0].logged


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"count": 3}, ["5.jpg", "3.jpg", "9.jpg"]), ({"image_ids": [1, 3]}, ["3.jpg", "1.jpg"])],
    ids=["the first ones", "a list"],
)
def test_the_wanted_images_with_truth_are_drawn_and_the_table_logged(settings, expected):
    left_out = sample(1, is_padding=True), sample(3, has_truth=False)
    batches = [*left_out, sample(5), sample(3)], [sample(9), sample(1)]
    logged = validate(WandbMedia(**settings), a_trainer(), a_module(), *batches)
    assert logged[PANOPTIC_KEY] == expected
    assert logged[TABLE_KEY][0] == "category_id"
    assert not {DECISIONS_KEY, ITERATIONS_KEY} & set(logged)


def test_an_epoch_is_drawn_once_and_the_end_of_the_run_in_any_case():
    media, module, trainer = WandbMedia(), a_module(), a_trainer()
    drawn = []
    for epoch, is_final in ((0, False), (0, False), (1, False), (1, False), (1, True)):
        trainer.current_epoch, module.is_final_evaluation = epoch, is_final
        drawn.append(PANOPTIC_KEY in validate(media, trainer, module, [sample(1)]))
    assert drawn == [True, False, True, False, True]


@pytest.mark.parametrize("iterations", [0, 2])
def test_iterations_of_a_network_that_has_them_and_decisions_on_overlaps_are_drawn(iterations):
    batches, boxes = ([sample(1), sample(2)], [sample(3), sample(4)]), (BOX, (2, 0, 12, 8))
    media, module = WandbMedia(num_iterations=3, num_decisions=1), a_module(iterations)
    logged = validate(media, a_trainer(), module, *batches, boxes=boxes)
    assert logged.get(ITERATIONS_KEY) == (["1.jpg", "2.jpg", "3.jpg"] if iterations else None)
    assert logged[DECISIONS_KEY] == ["1.jpg"]


@pytest.mark.parametrize(
    "change",
    [{"loggers": [SimpleNamespace(logged={})]}, {"is_global_zero": False}],
    ids=["another logger", "another process"],
)
def test_nothing_is_drawn_where_nothing_is_logged(change):
    module = a_module()
    module.pipeline = None  # reading it would fail
    assert validate(WandbMedia(), a_trainer(**change), module, [sample(1)]) == {}
