"""``scripts/steps.sh``: commands one by one."""

import subprocess

from make.commands import SCRIPTS

STOPPED_FOR_A_SECOND = "bash -c '(sleep 1; kill -CONT $$) & kill -STOP $$; echo continued; exit {}'"


def _run(code):
    command = f"step nap {STOPPED_FOR_A_SECOND.format(code)}; echo after"
    lines = ["bash", "-c", f"source '{SCRIPTS / 'steps.sh'}'; {command}"]
    return subprocess.run(lines, capture_output=True, text=True, timeout=60)


def test_a_command_that_is_stopped_and_continued_has_not_failed():
    process = _run(0)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-2:] == ["continued", "after"]


def test_its_failure_ends_all():
    process = _run(3)
    assert process.returncode == 1
    assert "after" not in process.stdout.splitlines()
    assert process.stderr.splitlines()[-1].startswith("error: nap: did not finish; fix the cause")
