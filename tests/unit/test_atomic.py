"""A file is written whole or not at all."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from refine.atomic import draft_folder, sync_files, write_atomically, write_bytes, write_text


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


def test_files_that_are_synced_later(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    paths = [tmp_path / f"{k}.png" for k in range(20)]
    for path in paths:
        write_bytes(path, b"old", is_synced=False)
        write_bytes(path, path.name.encode(), is_synced=False)
    assert not synced
    assert [path.read_text() for path in paths] == [path.name for path in paths]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    sync_files(paths)
    assert sorted(synced) == sorted(path.stat().st_ino for path in paths)
    with pytest.raises(FileNotFoundError):
        sync_files([tmp_path / "missing.png"])


def test_bytes_that_cannot_be_written_leave_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="space"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
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


WRITE_A_DRAFT = """
import sys, time
from pathlib import Path
from refine.atomic import draft_folder
with draft_folder(Path(sys.argv[1])) as draft:
    draft.mkdir()
    (draft / "file").touch()
    print(draft, flush=True)
    time.sleep(100)
"""


def test_drafts_of_killed_processes_go_and_those_of_living_ones_stay(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE_A_DRAFT, str(tmp_path / "toy")],
            stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        killed, living = (process.stdout.readline().strip() for process in processes)
        processes[0].send_signal(signal.SIGKILL)
        processes[0].wait()
        for name in (".toy.notes", ".toy.abcdefgh", ".toys.abcdefgh"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "mine").touch()
        assert Path(killed).exists()
        with draft_folder(tmp_path / "toy") as draft:
            assert draft.parent.is_dir()
            assert not Path(killed).parent.exists()
            assert Path(living, "file").exists()
        assert not draft.parent.exists()
        assert len([*tmp_path.rglob("mine")]) == 3
    finally:
        for process in processes:
            process.kill()
            process.wait()
