"""A large file over HTTP: each connection goes on where the one before it ended."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from refine.errors import RefineError, first_line

_TIMEOUT_S = 30
_MAX_PAUSE_S = 60.0
_BLOCK = 1 << 18
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)


class MissingError(RefineError):
    """The server does not have the file."""


class _BrokenError(Exception):
    """The connection failed; another one may not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """When to give up.

    Attributes:
        attempts: Connections in a row that may bring nothing new, 1 or more.
        pause_s: Seconds before the second attempt; doubled before each further one, at most 60.
        advice: What to do then, for messages.
    """

    attempts: int
    pause_s: float
    advice: str


def download_rest(
    url: str,
    part: Path,
    *,
    retries: Retries,
    size: int | None = None,
    show: Callable[[int], object] = int,
) -> None:
    """Download what a file lacks of its ``size`` bytes; None: of as many as the server says.

    A server that knows no ranges sends the file from its beginning. ``show`` takes the number of
    bytes that are there. An ``OSError`` says that the file cannot be written.

    Raises:
        MissingError: The server does not have it.
        RefineError: The server has a file of another size, or too many connections failed; what has
            come stays in ``part``.
    """
    if size is not None and size_of(part) > size:
        part.unlink()
    most, failures, is_whole = size_of(part), 0, size_of(part) == size
    while not is_whole:
        try:
            _receive(url, part, size, retries.advice, show)
            is_whole = True
        except _BrokenError as error:
            have = size_of(part)
            failures, most = (0 if have > most else failures + 1), max(most, have)
            if failures >= retries.attempts:
                of_all = "" if size is None else f" of {size}"
                raise RefineError(
                    f"{url}: {error}, {failures} times; {have}{of_all} bytes are there, "
                    "run the command again to go on"
                ) from None
            time.sleep(min(retries.pause_s * 2 ** max(failures - 1, 0), _MAX_PAUSE_S))


def _receive(
    url: str, part: Path, size: int | None, advice: str, show: Callable[[int], object]
) -> None:
    """Append what one connection brings."""
    have = size_of(part)
    with _open(url, have, advice) as response:
        start, total = _find_place(response)
        if size is not None and total not in (None, size):
            raise _other_size(url, f"{total}", size, advice)
        if start not in (0, have):
            raise _BrokenError(f"the server sends bytes from {start} on instead of {have}")
        have, end = start, total if size is None else size
        with part.open("ab" if start else "wb") as file:
            while (end is None or have <= end) and (block := _read(response)):
                file.write(block)
                have += len(block)
                show(have)
    if end is None or have == end:
        return
    if have > end:
        part.unlink()
        raise _other_size(url, f"more than {end}", end, advice)
    raise _BrokenError(f"the connection ended after {have} bytes")


def _open(url: str, have: int, advice: str) -> HTTPResponse:
    request = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response: HTTPResponse = urlopen(request, timeout=_TIMEOUT_S)
    except HTTPError as error:
        error.close()
        answer = f"the server answers {error.code} ({first_line(Exception(error.reason))})"
        if error.code in _TEMPORARY:
            raise _BrokenError(answer) from None
        is_absent = error.code in (403, 404, 410)  # S3 says 403
        kind = MissingError if is_absent else RefineError
        raise kind(f"{url}: {answer}; {advice}") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        cause = reason if isinstance(reason, Exception) else error
        raise _BrokenError(first_line(cause)) from None
    return response


def _find_place(response: HTTPResponse) -> tuple[int, int | None]:
    """Position of the first byte that comes, and the size of the whole file if it is told."""
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if found is None:
            raise _BrokenError("the server does not say which bytes it sends")
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(_BLOCK)
    except (OSError, HTTPException, ValueError) as error:
        raise _BrokenError(first_line(error)) from None


def size_of(path: Path) -> int:
    """Number of bytes of a file; 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def _other_size(url: str, actual: str, size: int, advice: str) -> RefineError:
    return RefineError(f"{url}: the file has {actual} bytes there, not {size}; {advice}")
