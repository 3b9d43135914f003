"""Commands answer questions and bad settings before they import what is slow."""

import os
import subprocess
import sys

import pytest

import refine
from refine.config.settings import COMMANDS

SLOW = ("torch", "torchvision", "pytorch_lightning", "scipy", "pycocotools", "matplotlib", "pandas")
CODE = f"""
import runpy, sys
name = sys.argv.pop(1)
try:
    runpy.run_module(name, run_name="__main__", alter_sys=True)
except SystemExit as end:
    code = end.code
finally:
    sys.stderr.write("".join(f"\\nslow: {{m}}" for m in {SLOW} if m in sys.modules))
sys.exit(locals().get("code"))
"""


def _start(name, *arguments, cwd, **env):
    return subprocess.run(
        [sys.executable, "-c", CODE, f"refine.{name}", *arguments],
        cwd=cwd, capture_output=True, text=True, check=False, env=os.environ | env,
    )  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_help_and_bad_settings_import_nothing_slow(name, tmp_path):
    helped = _start(name, "--help", cwd=tmp_path)
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "== Config ==" in helped.stdout
    wrong = _start(name, "nonsense=1", cwd=tmp_path)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("error: nonsense: no such setting")
    assert "slow: " not in wrong.stderr
    assert not [*tmp_path.iterdir()]


def test_completion_of_the_command_line_imports_nothing_slow(tmp_path):
    line = "refine-train trainer="
    query = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}
    found = _start("train", "-sc", "query=bash", cwd=tmp_path, **query)
    assert found.stderr == ""
    assert "trainer=multi_node" in found.stdout.split()


@pytest.mark.parametrize("name", [*COMMANDS, "report"])
def test_every_command_says_its_version(name, tmp_path):
    said = _start(name, "--version", cwd=tmp_path)
    assert (said.returncode, said.stdout) == (0, f"refine {refine.__version__}\n")
    assert "slow: " not in said.stderr
