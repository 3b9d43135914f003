import doctest
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import refine

README = Path(__file__).parents[3] / "README.md"


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
    "module", ["api.predictor", "api.fuse_predictions", "metrics.panoptic_quality"]
)
def test_examples_of_docstrings(module, checkpoint, photo, tmp_path):
    names = {"checkpoint": checkpoint, "photo": photo, "folder": tmp_path}
    found = doctest.testmod(import_module(f"refine.{module}"), extraglobs=names)
    assert found.attempted > 3
    assert not found.failed


def test_python_of_the_readme(checkpoint, photo, tmp_path, monkeypatch):
    """The blocks as they stand, in a folder that holds the files they name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "RUN").symlink_to(checkpoint.parents[1])
    (tmp_path / "photo.jpg").symlink_to(photo)
    blank = np.zeros((48, 60), int)
    names = {"masks": [blank > 0], "scores": [0.9], "labels": [0], "semantic": blank}
    names |= {"true_map": blank + 1, "true_segments": [{"id": 1, "category_id": 7}]}
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    assert any("refine.load" in block for block in blocks)
    for block in blocks:
        exec(block, names)
    assert (tmp_path / "predicted" / "panoptic.json").exists()
