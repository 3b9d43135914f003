"""Shared by every test: fixed seeds and threads, real data by environment variable."""

import gc
import os
import re
from pathlib import Path

import pytest
import torch

_OF_ELSEWHERE = re.compile(
    "(hydra|pl|slurm|torchelastic|wandb)_.*|refine_(cache|triton)|.*_proxy|columns|force_color|"
    "((group_|local_)?world_size|(group_|local_|node_)?rank|master_(addr|port))",
    re.IGNORECASE,
)
"""Variables that steer commands and libraries: of a cluster's shell, a CI, a proxy."""

for _name in filter(_OF_ELSEWHERE.fullmatch, [*os.environ]):
    del os.environ[_name]


def pytest_collection_finish():
    gc.freeze()  # modules and tests are no garbage: the collector need not look at them again


@pytest.fixture(autouse=True)
def _deterministic():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def _folder(variable: str, content: str) -> Path:
    if not os.environ.get(variable):
        pytest.skip(f"{variable} is not set: {content}")
    return Path(os.environ[variable])


@pytest.fixture(scope="session")
def coco_root() -> Path:
    return _folder("REFINE_COCO_ROOT", "the folder of a COCO-panoptic dataset")


@pytest.fixture(scope="session")
def golden_root() -> Path:
    return _folder("REFINE_GOLDEN_ROOT", "the official evaluator's answers")
