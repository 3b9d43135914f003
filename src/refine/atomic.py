"""Writes files whole or not at all."""

import os
import secrets
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
