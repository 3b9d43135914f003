"""Shared by every test: fixed seeds and threads, real data by environment variable."""

import gc
import os
from pathlib import Path

import pytest
import torch


def pytest_collection_finish():
    gc.freeze()  # modules and tests are no garbage: the collector need not look at them again


@pytest.fixture(autouse=True)
def _deterministic():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def coco_root() -> Path:
    root = os.environ.get("REFINE_COCO_ROOT")
    if not root:
        pytest.skip("REFINE_COCO_ROOT is not set: the folder of a COCO-panoptic dataset")
    return Path(root)


@pytest.fixture(scope="session")
def golden_root() -> Path:
    root = os.environ.get("REFINE_GOLDEN_ROOT")
    if not root:
        pytest.skip("REFINE_GOLDEN_ROOT is not set: the official evaluator's answers")
    return Path(root)
