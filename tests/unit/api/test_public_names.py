import doctest
import subprocess
import sys
from importlib import import_module

import pytest

import refine


def test_importing_refine_imports_nothing_heavy():
    code = (
        "import sys, refine; heavy = {'torch', 'numpy', 'hydra'} & set(sys.modules); "
        "assert not heavy, heavy; assert set(refine.__all__) <= set(dir(refine))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there_and_documented():
    assert all(getattr(refine, name).__doc__ for name in refine.__all__)
    assert not hasattr(refine, "nonsense")


@pytest.mark.parametrize(
    "module", ["api.adapters", "api.predictor", "api.fuse_predictions", "metrics.panoptic_quality"]
)
def test_examples_of_docstrings(module, checkpoint, photo, tmp_path):
    names = {"checkpoint": checkpoint, "photo": photo, "folder": tmp_path}
    found = doctest.testmod(import_module(f"refine.{module}"), extraglobs=names)
    assert found.attempted > 3
    assert not found.failed
