"""Which images are drawn, and when."""

from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from refine.callbacks import wandb_media
from refine.callbacks.wandb_media import DECISIONS_KEY, ITERATIONS_KEY, PANOPTIC_KEY, WandbMedia
from refine.callbacks.wandb_run import TABLE_KEY, WandbRun
from refine.categories import Category, CategoryTable
from refine.metrics.functional import PanopticStats
from refine.metrics.quality_table import category_rows
from refine.options import FusionOptions
from refine.training.detector_module import DetectorModule
from refine.types import GroundTruth, PanopticPrediction, Sample

SIZE = (8, 12)
CATEGORIES = CategoryTable([Category(dataset_id=1, name="a", is_thing=True, color=(9, 9, 9))])


class Module(DetectorModule):
    """Has what the callback reads."""

    is_final_evaluation = False

    def __init__(self, iterations=0):
        pl.LightningModule.__init__(self)
        network = SimpleNamespace(num_iterations=iterations, trace=lambda batch: batch.samples)
        self.pipeline = SimpleNamespace(fusion=FusionOptions(), network=network)
        self.evaluation = SimpleNamespace(quality=SimpleNamespace(categories=CATEGORIES))
        self.result = SimpleNamespace(rows=category_rows(PanopticStats.zeros(1), CATEGORIES))


class Recorder(WandbRun):
    def __init__(self):
        super().__init__("nowhere")
        self.logged = []

    def log_metrics(self, metrics, **_):
        self.logged.append(metrics)


def sample(image_id, *, has_truth=True, is_padding=False):
    truth = GroundTruth(segment_map=np.zeros(SIZE, np.int32), segments=())
    return Sample(
        image=torch.zeros(3, *SIZE, dtype=torch.uint8),
        image_id=image_id,
        file_name=f"{image_id}.jpg",
        original_size=SIZE,
        truth=truth if has_truth else None,
        is_padding=is_padding,
    )


@pytest.fixture
def trainer(monkeypatch):
    monkeypatch.setattr(wandb_media, "to_table", lambda columns, rows: (columns, rows))
    monkeypatch.setattr(wandb_media, "to_pictures", lambda pictures, captions: list(captions))
    monkeypatch.setattr(wandb_media, "find_decisions", lambda *args, **kwargs: [])
    return SimpleNamespace(
        loggers=[Recorder()],
        sanity_checking=False,
        is_global_zero=True,
        current_epoch=0,
        global_step=7,
    )


def validate(callback, trainer, module, *batches):
    """What was logged in this validation."""
    logged = trainer.loggers[0].logged if trainer.loggers else []
    logged.clear()
    panoptic = PanopticPrediction(segment_map=np.zeros(SIZE, np.int32), segments=())
    callback.on_validation_start()
    for samples in batches:
        outputs = [(None, panoptic) for _ in samples]
        batch = SimpleNamespace(samples=samples)
        callback.on_validation_batch_end(trainer, module, {"outputs": outputs}, batch, 0)
    callback.on_validation_end(trainer, module)
    return logged[0] if logged else None


def test_the_first_images_are_drawn_and_the_table_logged(trainer):
    first, second = [sample(5), sample(3)], [sample(9), sample(1)]
    logged = validate(WandbMedia(count=3), trainer, Module(), first, second)
    assert logged[PANOPTIC_KEY] == ["5.jpg", "3.jpg", "9.jpg"]
    assert logged[TABLE_KEY][0][0] == "category_id"
    assert not {DECISIONS_KEY, ITERATIONS_KEY} & set(logged)


def test_a_list_of_images_is_kept_to(trainer):
    media = WandbMedia(image_ids=[1, 3])
    logged = validate(media, trainer, Module(), [sample(5), sample(3)], [sample(1)])
    assert logged[PANOPTIC_KEY] == ["3.jpg", "1.jpg"]


def test_padding_and_images_without_truth_are_left_out(trainer):
    samples = [sample(1, is_padding=True), sample(2, has_truth=False), sample(3)]
    assert validate(WandbMedia(), trainer, Module(), samples)[PANOPTIC_KEY] == ["3.jpg"]


def test_an_epoch_is_drawn_once_and_the_end_of_the_run_in_any_case(trainer):
    media, module = WandbMedia(), Module()
    drawn = [PANOPTIC_KEY in validate(media, trainer, module, [sample(1)]) for _ in range(2)]
    trainer.current_epoch = 1
    drawn += [PANOPTIC_KEY in validate(media, trainer, module, [sample(1)]) for _ in range(2)]
    module.is_final_evaluation = True
    drawn.append(PANOPTIC_KEY in validate(media, trainer, module, [sample(1)]))
    assert drawn == [True, False, True, False, True]


@pytest.mark.parametrize("iterations", [0, 2])
def test_iterations_are_drawn_of_a_network_that_has_them(trainer, monkeypatch, iterations):
    monkeypatch.setattr(wandb_media, "draw_iterations", lambda *_: np.zeros((2, 2, 3)))
    media, module = WandbMedia(num_iterations=3), Module(iterations)
    logged = validate(media, trainer, module, [sample(1), sample(2)], [sample(3), sample(4)])
    expected = ["1.jpg", "2.jpg", "3.jpg"] if iterations else None
    assert logged.get(ITERATIONS_KEY) == expected


@pytest.mark.parametrize(
    "change", [{"loggers": []}, {"is_global_zero": False}], ids=["no logger", "another process"]
)
def test_nothing_is_drawn_where_nothing_is_logged(trainer, monkeypatch, change):
    monkeypatch.setattr(WandbMedia, "_draw", lambda *_: pytest.fail("drew"))
    for name, value in change.items():
        setattr(trainer, name, value)
    assert validate(WandbMedia(), trainer, Module(), [sample(1)]) is None


def test_modules_of_other_stages_are_left_alone(trainer):
    other = pl.LightningModule()
    media = WandbMedia()
    media.on_validation_batch_end(trainer, other, None, None, 0)
    media.on_validation_end(trainer, other)
    assert trainer.loggers[0].logged == []
