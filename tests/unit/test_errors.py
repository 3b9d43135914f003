"""What scripts do with bad input."""

import pytest

from refine.errors import RefineError, run_script


def _fail():
    raise RefineError("x.json: no such file; name another")


def test_bad_input_is_one_line_and_code_1(capsys):
    assert run_script(_fail) == 1
    assert capsys.readouterr().err == "error: x.json: no such file; name another\n"


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3)])
def test_the_task_s_own_code_is_kept(returned, code):
    assert run_script(lambda: returned) == code


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_script(lambda: 1 // 0)
