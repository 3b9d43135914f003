"""Writes files and folders whole or not at all."""

import glob
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

_SYNCS = 8  # at a time


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Provide a temporary path that becomes ``path`` when the block ends without an error.

    A reader sees the old file or the whole new one, and several processes may write the same file.
    The folder is created if it is missing; an ``OSError`` says that the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _name_part(path)
    try:
        part.touch()
        mode = part.stat().st_mode
        yield part
        part.chmod(mode)  # safetensors gives its files to their owner alone
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all; its folder is created if it is missing."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes, *, is_synced: bool = True) -> None:
    """Write a file whole or not at all, as :func:`write_atomically` does.

    If it is not synced, a power failure may leave it empty until :func:`sync_files`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _name_part(path)
    try:
        with part.open("xb") as file:
            file.write(content)
            if is_synced:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def sync_files(paths: Iterable[Path]) -> None:
    """Wait until files and their names are on the disk, which writes those of all threads at once.

    One after the other, they would take some milliseconds each.
    """
    files = [*paths]
    with ThreadPoolExecutor(_SYNCS) as pool:
        for _ in pool.map(_sync_all, (files[k::_SYNCS] for k in range(_SYNCS))):
            pass


def _sync_all(files: Iterable[Path]) -> None:
    for path in files:
        descriptor = os.open(path, os.O_RDWR)  # Windows syncs no other
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _name_part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


@contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """Provide a new hidden folder beside ``path``, which is gone afterwards.

    Those that killed processes have left there are removed: a living one holds a lock on its own.
    """
    for other in path.parent.glob(f".{glob.escape(path.name)}.*"):
        if re.fullmatch(r"[a-z0-9_]{8}", other.suffix[1:]) and other.is_dir():
            with hold_folder(other) as is_held:
                if is_held and {*other.glob("*")} <= {other / "draft"}:
                    shutil.rmtree(other, ignore_errors=True)
    while True:
        holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        with hold_folder(holder, waits=True):
            if not holder.exists():
                continue  # another process took it for one that was left
            try:
                yield holder / "draft"
            finally:
                shutil.rmtree(holder, ignore_errors=True)
            return


@contextmanager
def hold_folder(folder: Path, *, waits: bool = False) -> Iterator[bool]:
    """Lock a folder as long as the block lasts; false if it is locked, or cannot be."""
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        is_held = True
    except OSError:
        is_held = False
    try:
        yield is_held
    finally:
        os.close(descriptor)
