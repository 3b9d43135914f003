"""One process at a time in a run's folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from refine.config.processes import is_first_process
from refine.errors import RefineError, first_line

_held: set[int] = set()  # file descriptors, which forked children must not hold, too


@contextmanager
def lock_folder(path: Path, *, key: str = "hydra.run.dir") -> Iterator[None]:
    """Keep other processes out of a folder. A new one is removed if it stays empty.

    Parts of files that a killed process has left are removed. The lock ends with the process,
    however it ends. Of several processes of one run the first one holds it for all. ``key`` is the
    setting that names the folder.

    Raises:
        RefineError: Another process is in it, or it cannot be created.
    """
    if not is_first_process():
        yield
        return
    is_new = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        folder = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise RefineError(
            f"{path}: {first_line(error)}; choose another folder with {key}=FOLDER"
        ) from None
    _held.add(folder)
    try:
        _lock(folder, path, key)
        for pattern in (".*.part", "checkpoints/.*.part"):
            for part in path.glob(pattern):
                part.unlink(missing_ok=True)
        yield
    finally:
        _held.discard(folder)
        os.close(folder)
        if is_new:
            with suppress(OSError):  # it holds something
                path.rmdir()


def _let_go() -> None:
    for folder in _held:
        os.close(folder)


os.register_at_fork(after_in_child=_let_go)


def _lock(folder: int, path: Path, key: str) -> None:
    try:
        import fcntl

        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RefineError(
            f"{path}: another process is running in this folder; wait for it, or choose another "
            f"folder with {key}=FOLDER"
        ) from None
    except (ImportError, OSError):  # a system without such locks
        return
