"""A few toy scenes and a tiny network, shared by the tests that run commands."""

import pytest

from make import commands
from refine.options import ToyOptions
from refine.toy.dataset import write_toy_dataset

NUM_TRAIN, NUM_VAL = 8, 5
HEIGHT, WIDTH = 64, 96
TINY = [
    "experiment=toy", "model.backbone.frozen_stages=5", "model.backbone.fpn_channels=32",
    "model.semantic.channels=32", "model.roi.samples_per_image=16", "model.roi.box_fc_channels=32",
    "model.roi.mask_channels=32", "model.roi.mask_convs=1", "model.roi.max_detections=20",
    "data.num_workers=0", "data.batch_size=2",
    f"data.toy.num_train={NUM_TRAIN}", f"data.toy.num_val={NUM_VAL}",
    f"data.toy.height_px={HEIGHT}", f"data.toy.width_px={WIDTH}",
    f"data.image.train_short_sides_px=[{HEIGHT}]", f"data.image.eval_short_side_px={HEIGHT}",
    f"data.image.max_long_side_px={WIDTH}",
    "trainer.enable_progress_bar=false", "callbacks.progress=null",
]  # fmt: skip


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "toy"
    write_toy_dataset(
        root,
        ToyOptions(
            version=2, num_train=NUM_TRAIN, num_val=NUM_VAL, height_px=HEIGHT, width_px=WIDTH
        ),
    )
    return root


@pytest.fixture(scope="session")
def settings(toy_root):
    return [*TINY, f"data.root={toy_root}"]


@pytest.fixture(scope="session")
def start(settings):
    """Trains with the tiny settings into a folder: ``start(run_dir, *overrides)``."""

    def _start(run_dir, *overrides):
        return commands.train(run_dir, *settings, *overrides)

    return _start


@pytest.fixture(scope="session")
def run(start, tmp_path_factory):
    """The folder of a finished training of six steps."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    start(run_dir, "trainer.max_steps=6", "draw=2", "trainer.val_check_interval=6")
    return run_dir


@pytest.fixture(scope="session")
def best(run):
    return f"ckpt_path={run / 'checkpoints' / 'best.ckpt'}"
