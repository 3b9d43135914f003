"""What scripts do with bad input."""

import io
import subprocess
import sys

import pytest

from refine.config.command import run_command
from refine.errors import Findings, RefineError, run_script


def _fail():
    raise RefineError("x.json: no such file; name another")


def test_a_task_ends_with_its_code_one_line_or_its_traceback(capsys):
    assert [run_script(lambda code=code: code) for code in (None, 0, 3)] == [0, 0, 3]
    assert run_script(_fail) == 1
    assert capsys.readouterr().err == "error: x.json: no such file; name another\n"
    with pytest.raises(ZeroDivisionError):
        run_script(lambda: 1 // 0)


def test_what_a_terminal_cannot_show_ends_no_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["check", f"data.root={tmp_path}"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # the command sets it

    def written(start):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "latin-1"))
            start(lambda *_: sys.stdout.write("\u2022 ä\n") and None)
            sys.stdout.flush()
            return sys.stdout.buffer.getvalue()

    assert written(run_script) == b"? \xe4\n"
    assert written(lambda task: run_command("check", task)) == b"? \xe4\n"


@pytest.mark.parametrize("count", [1, 10**6])
def test_a_reader_that_has_seen_enough_is_no_error(count):
    code = (
        f"import sys; from refine.errors import run_script; sys.stdin.read(1); "
        f"sys.exit(run_script(lambda: print('x' * {count})))"
    )
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        process.stdout.close()
        process.stdin.close()  # now it writes
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (" a.png: bad;\n fix it\n", "a.png: bad; fix it"),
        ("a\x1b[31m.png\ud800\u202e: bad", "a\\x1b[31m.png\\ud800\\u202e: bad"),
        ("größe  (1).png: déjà vu", "größe  (1).png: déjà vu"),
        (
            f"weights=/{'a/' * 150}b.pth: /{'a/' * 150}b.pth: bad; fix it",
            "weights=.../a/b.pth: .../a/b.pth: bad; fix it",
        ),
        (
            f"root=/x/y/my data/{'a/' * 20}b: /{'a/' * 150}b.pth: bad; fix it",
            f"root=/x/y/my data/{'a/' * 20}b: .../a/b.pth: bad; fix it",
        ),
        ("x" * 290, "x" * 290),
    ],
)
def test_a_message_is_one_printable_line(text, line):
    assert str(RefineError(text)) == line


def test_of_a_long_message_the_beginning_and_the_end_are_kept():
    line = str(RefineError(f"a.json: {'x' * 999}; fix it"))
    assert len(line) <= 290
    assert line.startswith("a.json: xxx")
    assert line.endswith("xxx; fix it")


def test_findings_count_and_keep_the_first():
    findings = Findings()
    for k in range(5):
        findings("a kind", f"{k}\n is bad")
    findings("another", "x")
    assert findings.counts == {"a kind": 5, "another": 1}
    assert findings.examples["a kind"] == ["0 is bad", "1 is bad", "2 is bad"]
