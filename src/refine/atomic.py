"""Writes files and folders whole or not at all."""

import glob
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Provide a temporary path that becomes ``path`` when the block ends without an error.

    A reader sees the old file or the whole new one, and several processes may write the same file.
    The folder is created if it is missing; an ``OSError`` says that the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
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
    with write_atomically(path) as part:
        part.write_text(text, encoding="utf-8")


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
