"""The benchmark of a GPU runs on the CPU at small size: every part, no failure."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "benchmark" / "gpu.py"


def _run(out, *arguments):
    command = [sys.executable, str(SCRIPT), "--out", str(out), "--device", "cpu", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done, json.loads(out.read_text())["rows"]


@pytest.mark.slow
def test_every_part_runs_on_the_cpu(tmp_path):
    small = ["--size", "64", "96", "--batch-sizes", "1", "2", "--steps", "1"]
    small += ["--inference-batch", "1", "--seconds", "1000"]
    done, rows = _run(tmp_path / "gpu.json", "--networks", "toy_ibpp3", *small)
    assert done.returncode == 0, done.stderr
    parts = {row["part"] for row in rows}
    assert parts == {"against CPU", "training", "profile", "waits", "inference"}
    assert not any("failed" in row or "skipped" in row for row in rows)
    same = next(row for row in rows if row["part"] == "against CPU")
    assert same["detections found again"] == "100/100"  # two images, this time on one device
    assert all(value == "0.0e+00" for _, value in same["losses"].values())


def test_a_failure_is_a_line_and_the_rest_is_skipped_in_time(tmp_path):
    done, rows = _run(tmp_path / "gpu.json", "--networks", "toy_ibpp3", "--seconds", "0")
    assert done.returncode == 0
    assert {row["skipped"] for row in rows} == {"no time"}
    done, rows = _run(
        tmp_path / "gpu.json", "--networks", "no_such", "--size", "64", "96", "--batch-sizes", "1"
    )
    assert done.returncode == 1
    assert all("no_such" in row["failed"] for row in rows)
