"""``scripts/demo.sh`` and ``scripts/ablation.sh``: short, again, and interrupted."""

import os
import signal
import subprocess
import sys
import time

import pytest

from make.commands import SCRIPTS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def start(settings, tmp_path):
    """Starts a script with the tiny network on scenes that the script makes itself."""
    environment = os.environ | {"PYTHON": sys.executable, "OUT": str(tmp_path), "STEPS": "1"}
    environment |= {"SCENES": "4", "PYTHONWARNINGS": "ignore"}
    own = ("experiment=", "data.root=", "data.toy.num_")
    small = [setting for setting in settings if not setting.startswith(own)]
    more = ["occlusion.schedule.max_steps=1", "compute_ap=false"]

    def _start(name):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([SCRIPTS / name, *small, *more], env=environment, **pipes)

    return _start


def test_the_demo_is_interrupted_goes_on_and_ends_with_a_table(start, tmp_path):
    process = start("demo.sh")
    while not [*tmp_path.glob("networks/*/config.yaml")] and process.poll() is None:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "interrupted; run the same command again to continue"
    out, err = start("demo.sh").communicate()
    for row in ("Panoptic-FPN", "+ IBPP ", "+ IBPP + SOE ", "+ IBPP + SOE + UE "):
        line = next(line for line in out.splitlines() if line.startswith(f"| {row}"))
        assert "[" in line.split("|")[3], err
    assert (tmp_path / "report.html").is_file()
    assert [*(tmp_path / "networks" / "toy_refine" / "pictures").glob("*.png")]


def test_the_ablation_ends_with_tables_figures_and_a_report(start, tmp_path):
    out, err = start("ablation.sh").communicate()
    assert "report: " in out, err
    for name in ("tables.md", "sigma.md", "unknown_erasing.md", "report.html"):
        assert (tmp_path / name).is_file()
    table = (tmp_path / "tables.md").read_text()
    assert all(f"Toy Table {number}" in table for number in (3, 4, 5, 6))
    missing = [line.split("|")[1].strip() for line in table.splitlines() if line.count("—") > 9]
    assert missing == []
    assert "panels: image, ground truth, heuristic, SRM, OCFusion, SOE + UE" in out
