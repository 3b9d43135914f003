"""The one exception whose text is written for the person at the keyboard."""

import sys
from collections.abc import Callable


class RefineError(Exception):
    """Bad input: a file, a setting or a checkpoint that cannot be used.

    The message is one line that names the thing and the fix. Commands print it without a
    traceback and exit with a code other than 0; every other exception is a bug of ours and keeps
    its traceback.
    """


def first_line(error: Exception) -> str:
    """The reason of a failure in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0]


def run_script(task: Callable[[], int | None]) -> int:
    """Run a script so that bad input becomes one line on standard error.

    Args:
        task: All that the script does; may return an exit code.

    Returns:
        The exit code: the task's own or 0, and 1 for a :class:`RefineError`.
    """
    try:
        return task() or 0
    except RefineError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
