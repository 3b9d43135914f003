"""The one exception whose text is written for the person at the keyboard."""

import sys
from collections.abc import Callable


class RefineError(Exception):
    """Bad input: a file, a setting or a checkpoint that cannot be used.

    The message is one line that names the thing and the fix. Commands print it without a traceback
    and exit with a code other than 0.
    """


def first_line(error: Exception) -> str:
    """The reason of a failure in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0]


def run_script(task: Callable[[], int | None]) -> int:
    """A script's exit code: its own or 0; 1, and a line on stderr, for a :class:`RefineError`."""
    try:
        return task() or 0
    except RefineError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
