"""A file is written whole or not at all."""

import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from refine.atomic import write_atomically, write_text


def test_text_replaces_the_old_file_and_creates_the_folder(tmp_path):
    path = tmp_path / "new" / "file.txt"
    write_text(path, "old")
    write_text(path, "größer")
    assert path.read_text(encoding="utf-8") == "größer"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            _write_half(path, error)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]


def test_writers_of_one_file_do_not_share_a_temporary_path(tmp_path):
    with write_atomically(tmp_path / "file") as first, write_atomically(tmp_path / "file") as other:
        assert first != other
        first.write_text("a")
        other.write_text("b")
    assert (tmp_path / "file").read_text() == "a"


def _write_half(path, error):
    with write_atomically(path) as part:
        part.write_text("ha")
        raise error


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_file_may_be_read_by_whom_the_umask_lets(tmp_path, umask):
    before = os.umask(umask)
    try:
        with write_atomically(tmp_path / "a.safetensors") as part:
            save_file({"a": np.zeros(3)}, part)
    finally:
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask
