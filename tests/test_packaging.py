"""What a user installs: a wheel with its configuration, types and commands."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT],
        check=True, capture_output=True,
    )  # fmt: skip
    return next(out.glob("*.whl"))


def test_wheel_holds_types_configuration_and_commands(wheel):
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
        (entry_points,) = [n for n in names if n.endswith("entry_points.txt")]
        commands = content.read(entry_points).decode()
    assert "refine/py.typed" in names
    assert "refine/conf/experiment/toy.yaml" in names
    assert "hydra_plugins/refine_sweeper.py" in names
    for name in ("paper_tables.yaml", "templates/page.html.j2", "templates/chart.mplstyle"):
        assert f"refine/report/{name}" in names
    assert "refine-report = refine.report.__main__:main" in commands
    for name in (
        "train",
        "evaluate",
        "predict",
        "fuse",
        "score",
        "convert",
        "check",
        "download",
        "export",
    ):
        assert f"refine-{name} = refine.{name}:main" in commands
    assert "refine-convert-dataset = refine.convert_dataset:main" in commands


def test_installed_package_finds_its_configuration(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as content:
        content.extractall(tmp_path / "site")
    code = (
        "from refine.config import compose; from refine.config.locate import conf_dir; "
        "assert 'site' in str(conf_dir()), conf_dir(); "
        "assert compose('train', ['experiment=toy']).data.batch_size == 4; "
        "assert compose('evaluate').predictions is None"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
