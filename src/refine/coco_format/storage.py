"""Files by name, from a folder or out of a zip that stays packed.

No storage holds an open file: each read opens its own, which costs some ten microseconds beside a
decode of milliseconds, and leaves nothing to go wrong in forked or spawned loader processes. The
directory of a zip is kept as arrays, 70 bytes a file: as Python objects it would take 60 MB for
COCO's training images, in every process.
"""

import io
import os
import shutil
import zipfile
import zlib
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from refine.coco_format.json_entries import is_inside
from refine.errors import RefineError

_LOCAL_HEADER_BYTES = 30  # of a zip's entry, before its name and extra field
_ENCRYPTED = 0x1
_COLUMNS = np.dtype(
    [("offset", "i8"), ("packed", "i8"), ("size", "i8"), ("crc", "u4"), ("method", "u2")]
)


class Storage(ABC):
    """Named files that can be read from any process.

    Attributes:
        label: What messages call the place.
    """

    label: str

    @abstractmethod
    def __contains__(self, name: str) -> bool:
        """Whether there is a file of this name."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes of file ``name``, without reading it.

        Raises:
            RefineError: There is no such file.
        """

    @abstractmethod
    def _read(self, name: str) -> bytes:
        """The content of a file whose name has been checked."""

    def read(self, name: str) -> bytes:
        """The whole content of file ``name`` (a relative path with forward slashes).

        Raises:
            RefineError: There is no such file, it is damaged, or the name leads outside.
        """
        if not is_inside(name):
            raise RefineError(f"{self.label}: {name!r} leads outside; use a relative path")
        return self._read(name)

    def _missing(self, name: str) -> RefineError:
        return RefineError(f"{self.label}: no file {name!r}; add it or remove it from the JSON")


class FolderStorage(Storage):
    """The files below a folder.

    Args:
        folder: The folder; it has to exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.label = str(folder)

    def __contains__(self, name: str) -> bool:
        return is_inside(name) and (self.folder / name).is_file()

    def size(self, name: str) -> int:
        """Bytes of the file."""
        try:
            return (self.folder / name).stat().st_size
        except OSError:
            raise self._missing(name) from None

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            raise self._missing(name) from None
        except OSError as error:
            reason = error.strerror
            raise RefineError(f"{self.folder / name}: {reason}; mend the file") from None


@dataclass(frozen=True, slots=True)
class Window:
    """A zip: a whole file, or a stretch of one (a zip stored uncompressed in another).

    Attributes:
        path: The file.
        start: First byte.
        size: Number of bytes.
    """

    path: Path
    start: int
    size: int

    @classmethod
    def of_file(cls, path: Path) -> "Window":
        """All of ``path``."""
        return cls(path, 0, path.stat().st_size)


class ZipStorage(Storage):
    """The files in a zip.

    Args:
        window: Where the zip lies.
        label: What messages call it.
        prefix: Names are looked up behind this prefix (``val2017/``), or without it if no entry
            of the zip has it.

    Raises:
        RefineError: It is no zip or damaged.
    """

    def __init__(self, window: Window, *, label: str, prefix: str = "") -> None:
        self.window = window
        self.label = label
        entries = [info for info in _list_entries(window, label) if not info.is_dir()]
        inside = [info for info in entries if info.filename.startswith(prefix)]
        cut = len(prefix) if inside else 0
        table = {_encoded(info.filename[cut:]): _column(info) for info in inside or entries}
        names = sorted(table)
        self._names = np.array(names, dtype=np.bytes_)
        self._columns = np.array([table[name] for name in names], dtype=_COLUMNS)

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def _find(self, name: str) -> int | None:
        wanted = _encoded(name)
        k = int(np.searchsorted(self._names, np.bytes_(wanted)))
        return k if k < len(self._names) and self._names[k] == wanted else None

    def size(self, name: str) -> int:
        """Bytes of the entry, unpacked."""
        return int(self._columns[self._place(name)]["size"])

    def _place(self, name: str) -> int:
        k = self._find(name)
        if k is None:
            raise self._missing(name)
        return k

    def _read(self, name: str) -> bytes:
        columns = self._columns[self._place(name)]
        offset, packed, crc, method = (
            int(columns[key]) for key in ("offset", "packed", "crc", "method")
        )
        try:
            data = self._unpack(offset, packed, method)
        except (OSError, ValueError, zlib.error) as error:
            raise self._damaged(name, str(error)) from None
        if zlib.crc32(data) != crc:
            raise self._damaged(name, "wrong checksum")
        return data

    def _unpack(self, offset: int, packed: int, method: int) -> bytes:
        with self.window.path.open("rb") as file:
            data = _seek_content(file, self.window.start + offset).read(packed)
        if method == zipfile.ZIP_STORED:
            return data
        if method == zipfile.ZIP_DEFLATED:
            return zlib.decompress(data, -zlib.MAX_WBITS)
        raise ValueError(f"compression method {method} or encryption is not supported")

    def _damaged(self, name: str, reason: str) -> RefineError:
        return RefineError(f"{self.label}: {name!r} cannot be read ({reason}); get the zip again")


def open_storage(path: Path, *, prefix: str = "") -> Storage:
    """The files in a folder or in a zip.

    Args:
        path: A folder or a zip.
        prefix: See :class:`ZipStorage`; a folder has none.

    Raises:
        RefineError: There is neither, or the zip is damaged.
    """
    if path.is_dir():
        return FolderStorage(path)
    if path.is_file():
        return ZipStorage(Window.of_file(path), label=str(path), prefix=prefix)
    raise RefineError(f"{path}: no such folder or zip; check the path")


def open_inner_zip(outer: Path, name: str, *, prefix: str, cache_dir: Path) -> Storage | None:
    """The files in a zip that lies in another zip.

    It is read in place if the outer zip holds it uncompressed. Otherwise it is unpacked into
    ``cache_dir`` once: a compressed zip cannot be read from the middle.

    Args:
        outer: The outer zip.
        name: Name of the inner zip in it.
        prefix: See :class:`ZipStorage`.
        cache_dir: Created when needed.

    Returns:
        None if the outer zip has no such entry.

    Raises:
        RefineError: A zip is damaged, or ``cache_dir`` cannot be written.
    """
    label = f"{outer}/{name}"
    infos = _list_entries(Window.of_file(outer), str(outer))
    info = next((info for info in infos if info.filename == name), None)
    if info is None:
        return None
    if info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & _ENCRYPTED:
        with outer.open("rb") as file:
            start = _seek_content(file, info.header_offset).tell()
        window = Window(outer, start, info.file_size)
    else:
        window = Window.of_file(_spool(outer, info, cache_dir))
    return ZipStorage(window, label=label, prefix=prefix)


def _spool(outer: Path, info: zipfile.ZipInfo, cache_dir: Path) -> Path:
    """Unpack one entry, unless an earlier run has done it."""
    stem = Path(info.filename).stem
    target = cache_dir / f"{stem}-{info.file_size}-{info.CRC:08x}.zip"
    if target.is_file():
        return target
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with (
            zipfile.ZipFile(outer) as archive,
            archive.open(info) as source,
            part.open("wb") as sink,
        ):
            shutil.copyfileobj(source, sink, 1 << 20)
        part.replace(target)
    except (OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise RefineError(
            f"{outer}: {info.filename!r} cannot be unpacked into {cache_dir} ({error}); "
            "set data.cache_dir to a folder with room, or get the zip again"
        ) from None
    finally:
        with suppress(OSError):
            part.unlink()
    return target


def _list_entries(window: Window, label: str) -> list[zipfile.ZipInfo]:
    try:
        with (
            window.path.open("rb") as file,
            zipfile.ZipFile(_WindowFile(file, window)) as archive,
        ):
            return archive.infolist()
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise RefineError(f"{label}: no readable zip ({error}); get the file again") from None


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _column(info: zipfile.ZipInfo) -> tuple[int, ...]:
    # an unknown method: reading says so, for this one entry only
    method = 0xFFFF if info.flag_bits & _ENCRYPTED else info.compress_type
    return info.header_offset, info.compress_size, info.file_size, info.CRC, method


def _seek_content(file: BinaryIO, header: int) -> BinaryIO:
    """Move to an entry's content: the local header's lengths may differ from the directory's."""
    file.seek(header)
    local = file.read(_LOCAL_HEADER_BYTES)
    if len(local) < _LOCAL_HEADER_BYTES or not local.startswith(b"PK\x03\x04"):
        raise ValueError("no local header")
    lengths = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
    file.seek(lengths, os.SEEK_CUR)
    return file


class _WindowFile(io.RawIOBase):
    """A stretch of a file as a file of its own."""

    def __init__(self, file: BinaryIO, window: Window) -> None:
        self._file = file
        self._window = window
        self._position = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._window.size}
        position = base[whence] + offset
        if position < 0:
            raise OSError("seek before the start")
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        left = max(self._window.size - self._position, 0)
        size = left if size is None or size < 0 else min(size, left)
        self._file.seek(self._window.start + self._position)
        data = self._file.read(size)
        self._position += len(data)
        return data
