"""Toy scenes that several files of tests look at."""

import pytest

from refine.options import ToyOptions
from refine.toy.dataset import write_toy_dataset

TOY = ToyOptions(num_train=38, num_val=12, height_px=64, width_px=96)


@pytest.fixture(scope="session")
def overlapping_toys(tmp_path_factory):
    """Folder of a toy dataset and its options."""
    root = tmp_path_factory.mktemp("overlapping") / "toy"
    write_toy_dataset(root, TOY)
    return root, TOY
