"""What scripts do with bad input."""

import pytest

from refine.errors import RefineError, run_script


def _fail():
    raise RefineError("x.json: no such file; name another")


def test_a_task_ends_with_its_code_one_line_or_its_traceback(capsys):
    assert [run_script(lambda code=code: code) for code in (None, 0, 3)] == [0, 0, 3]
    assert run_script(_fail) == 1
    assert capsys.readouterr().err == "error: x.json: no such file; name another\n"
    with pytest.raises(ZeroDivisionError):
        run_script(lambda: 1 // 0)
