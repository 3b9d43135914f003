"""The one exception whose text is written for the person at the keyboard."""

import io
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

MAX_LENGTH = 290
"""Characters of a message; ``error: `` comes before it."""

# controls, lone surrogates, and what ends a line or turns its direction
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LONG_PATH = re.compile(r"(?:/[^/\s:;,'()]+)+((?:/[^/\s:;,'()]+){2})")


def is_printable(text: str) -> bool:
    """Whether a text can be shown in a line, encoded as UTF-8 and used as the name of a file."""
    return _UNPRINTABLE.search(text) is None


class RefineError(Exception):
    """Bad input: a file, a setting or a checkpoint that cannot be used.

    The message is one line that names the thing and the fix; what could not be printed is escaped,
    and of a longer one, folders of paths and then the middle are left out. Commands print it
    without a traceback and exit with a code other than 0.
    """

    def __init__(self, message: str) -> None:
        # torch raises the error of a loader process anew, after that process's traceback
        message = message.rpartition(f"{__name__}.{type(self).__qualname__}: ")[2]
        line = re.sub(r"\s*[\r\n]+\s*", " ", message.strip())
        line = _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], line)
        super().__init__(_shorten(line))


def _shorten(line: str) -> str:
    """A line of at most ``MAX_LENGTH``; the file is named first, and the fix last."""
    if len(line) > MAX_LENGTH:
        first = _LONG_PATH.search(line)
        start = max(first.end() if first else 0, line.find(": "))  # its name may hold spaces
        line = line[:start] + _LONG_PATH.sub(r"...\1", line[start:])
    if len(line) > MAX_LENGTH:
        line = _LONG_PATH.sub(r"...\1", line)
    if len(line) > MAX_LENGTH:
        half = MAX_LENGTH // 2 - 3
        line = f"{line[:half]} ... {line[-half:]}"
    return line


Report = Callable[[str, str], None]
"""Takes a problem: its kind, in words, and the message. Checks go on when it returns."""


def refuse(kind: str, message: str) -> None:
    """Raise the first problem as a :class:`RefineError` (a :data:`Report`)."""
    del kind
    raise RefineError(message)


@dataclass(slots=True)
class Findings:
    """Collects problems (a :data:`Report`): how many of each kind, and the first messages.

    Attributes:
        counts: Number of problems of each kind.
        examples: The first :attr:`most_examples` messages of each kind.
        most_examples: Number of messages to keep.
    """

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    most_examples: int = 3

    def __call__(self, kind: str, message: str) -> None:
        """Count a problem."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        kept = self.examples.setdefault(kind, [])
        if len(kept) < self.most_examples:
            kept.append(str(RefineError(message)))


def first_line(error: Exception) -> str:
    """The reason of a failure in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0]


def print_what_can_be() -> None:
    """From here on, a ``?`` stands for what the terminal's encoding lacks; it ends no command."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")


def run_script(task: Callable[[], int | None]) -> int:
    """A script's exit code: its own or 0; 1, and a line on stderr, for a :class:`RefineError`.

    It is 0, too, if the reader of the output (``head``) has seen enough.
    """
    print_what_can_be()
    try:
        code = task() or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still to be written
        return 0
    except RefineError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
