"""Checkpoints are written whole or not at all."""

import resource

import pytest
import torch

from make.errors import refused
from refine.callbacks.checkpoints import WholeCheckpoints


@pytest.fixture
def full_disk():
    """No file may grow beyond 100 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, full_disk):
    path = tmp_path / "checkpoints" / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"x": torch.ones(3)}, path)
    with refused(path, "cannot be written", "hydra.run.dir=FOLDER"):
        WholeCheckpoints().save_checkpoint({"x": torch.ones(100_000)}, path)
    assert torch.equal(torch.load(path)["x"], torch.ones(3))
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


def test_a_run_folder_that_has_vanished_is_not_made_again(tmp_path):
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    with refused(path, "has vanished"):
        WholeCheckpoints().save_checkpoint({}, path)
    assert not (tmp_path / "run").exists()
