"""Files by name, from a folder or out of a zip that stays packed.

No storage holds an open file: each read opens its own, which costs some ten microseconds beside a
decode of milliseconds, and leaves nothing to go wrong in forked or spawned loader processes. The
directory of a zip is kept as arrays, 70 bytes per file: as Python objects it would take 60 MB for
COCO's training images, in every process.
"""

import mmap
import os
import shutil
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from refine.atomic import write_atomically
from refine.coco_format.json_entries import is_inside
from refine.errors import RefineError

_LOCAL_HEADER_BYTES = 30  # before an entry's name and extra field
_ENCRYPTED = 0x1
_COLUMNS = np.dtype(
    [("offset", "i8"), ("packed", "i8"), ("size", "i8"), ("crc", "u4"), ("method", "u2")]
)


class Storage(ABC):
    """Named files that can be read from any process; error messages call their place ``label``.

    Names are relative paths with forward slashes.
    """

    label: str

    @abstractmethod
    def __contains__(self, name: str) -> bool:
        """Whether there is a file of this name."""

    @abstractmethod
    def names(self) -> list[str]:
        """The names of all files, sorted, without hidden ones and those that cannot be used."""

    @abstractmethod
    def _size(self, name: str) -> int:
        """Bytes of a file that is there."""

    @abstractmethod
    def _read(self, name: str) -> bytes:
        """The content of a file that is there."""

    def size(self, name: str) -> int:
        """Bytes of file ``name``, without reading it; a RefineError if there is none."""
        if name not in self:
            raise RefineError(f"{self.label}: no file {name!r}; add it or remove it from the JSON")
        return self._size(name)

    def read(self, name: str) -> bytes:
        """The content of file ``name``; a RefineError if it is missing or damaged."""
        if not is_inside(name):
            raise RefineError(f"{self.label}: {name!r} leads outside; use a relative path")
        self.size(name)
        return self._read(name)


class FolderStorage(Storage):
    """The files below a folder, which has to exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.label = str(folder)

    def __contains__(self, name: str) -> bool:
        try:
            return is_inside(name) and (self.folder / name).is_file()
        except OSError:  # the whole path is too long
            return False

    def names(self) -> list[str]:
        """Sorted names of the files below the folder."""
        paths = (path for path in self.folder.rglob("*") if path.is_file())
        return _sort_names(path.relative_to(self.folder).as_posix() for path in paths)

    def _size(self, name: str) -> int:
        return (self.folder / name).stat().st_size

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise RefineError(f"{self.folder / name}: {error.strerror}; fix the file") from None


class ZipStorage(Storage):
    """The files in a zip.

    Args:
        path: The file that holds it.
        label: Name of the zip shown in error messages.
        prefix: Names are looked up behind this prefix (``val2017/``), or without it if no entry
            of the zip has it.
        end: Byte of ``path`` at which the zip ends; None for the end of the file.

    Raises:
        RefineError: It is no zip or damaged.
    """

    def __init__(self, path: Path, *, label: str, prefix: str = "", end: int | None = None) -> None:
        self.path = path
        self.label = label
        entries = [info for info in _list_entries(path, label, end=end) if not info.is_dir()]
        inside = [info for info in entries if info.filename.startswith(prefix)]
        cut = len(prefix) if inside else 0
        table = {}
        for info in inside or entries:
            # an unknown method: reading says so, for this one entry only
            method = 0xFFFF if info.flag_bits & _ENCRYPTED else info.compress_type
            sizes = info.compress_size, info.file_size
            table[_encoded(info.filename[cut:])] = (info.header_offset, *sizes, info.CRC, method)
        names = sorted(table)
        self._names = np.array(names, dtype=np.bytes_)
        self._columns = np.array([table[name] for name in names], dtype=_COLUMNS)

    def __contains__(self, name: str) -> bool:
        k = self._place(name)
        return k < len(self._names) and bool(self._names[k] == _encoded(name))

    def names(self) -> list[str]:
        """Sorted names of the entries."""
        return _sort_names(name.decode("utf-8", "surrogateescape") for name in self._names.tolist())

    def _place(self, name: str) -> int:
        return int(np.searchsorted(self._names, np.bytes_(_encoded(name))))

    def _size(self, name: str) -> int:
        return int(self._columns[self._place(name)]["size"])

    def _read(self, name: str) -> bytes:
        offset, packed, _, crc, method = self._columns[self._place(name)].item()
        try:
            with self.path.open("rb") as file:
                data = _seek_content(file, offset).read(packed)
            if method == zipfile.ZIP_DEFLATED:
                data = zlib.decompress(data, -zlib.MAX_WBITS)
            elif method != zipfile.ZIP_STORED:
                raise ValueError(f"compression method {method} or encryption is not supported")
            if zlib.crc32(data) != crc:
                raise ValueError("wrong checksum")
        except (OSError, ValueError, zlib.error) as error:
            raise RefineError(
                f"{self.label}: {name!r} cannot be read ({error}); get the zip again"
            ) from None
        return data


def open_storage(path: Path, *, prefix: str = "") -> Storage:
    """The files in a folder, or in a zip with a ``prefix`` (see :class:`ZipStorage`).

    Raises:
        RefineError: ``path`` is neither, or the zip is damaged.
    """
    if path.is_dir():
        return FolderStorage(path)
    if path.is_file():
        return ZipStorage(path, label=str(path), prefix=prefix)
    raise RefineError(f"{path}: no such folder or zip; check the path")


def open_inner_zip(outer: Path, name: str, *, prefix: str, cache_dir: Path) -> Storage | None:
    """The files in the zip ``name`` that lies in another zip; None if it does not.

    It is read in place if the outer zip holds it uncompressed. Otherwise it is unpacked into
    ``cache_dir`` (created when needed) once: a compressed zip cannot be read from the middle.

    Raises:
        RefineError: A zip is damaged, or ``cache_dir`` cannot be written.
    """
    infos = _list_entries(outer, str(outer))
    info = next((info for info in infos if info.filename == name), None)
    if info is None:
        return None
    path, end = outer, None
    if info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & _ENCRYPTED:
        try:
            with outer.open("rb") as file:
                end = _seek_content(file, info.header_offset).tell() + info.file_size
        except ValueError as error:
            raise RefineError(f"{outer}: {name!r}: {error}; get the zip again") from None
    else:
        path = cache_dir / f"{Path(name).stem}-{info.file_size}-{info.CRC:08x}.zip"
        if not path.is_file():
            _unpack_to(path, outer, info)
    return ZipStorage(path, label=f"{outer}/{name}", prefix=prefix, end=end)


def _unpack_to(target: Path, outer: Path, info: zipfile.ZipInfo) -> None:
    try:
        with (
            write_atomically(target) as part,
            zipfile.ZipFile(outer) as archive,
            archive.open(info) as source,
            part.open("wb") as sink,
        ):
            shutil.copyfileobj(source, sink, 1 << 20)
    except (OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise RefineError(
            f"{outer}: {info.filename!r} cannot be unpacked into {target.parent} ({error}); "
            "set data.cache_dir to a folder with room, or get the zip again"
        ) from None


def _list_entries(path: Path, label: str, *, end: int | None = None) -> list[zipfile.ZipInfo]:
    """The directory of a zip that ends at byte ``end`` of a file; offsets count in that file."""
    try:
        with path.open("rb") as file:
            # zipfile takes whatever lies before a zip for bytes that were put in front of it
            view: Any = file
            if end is not None:
                view = mmap.mmap(file.fileno(), end, access=mmap.ACCESS_READ)
            with zipfile.ZipFile(view) as archive:
                return archive.infolist()
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise RefineError(f"{label}: no readable zip ({error}); get the file again") from None


def _sort_names(names: Iterable[str]) -> list[str]:
    return sorted(n for n in names if is_inside(n) and not n.startswith(".") and "/." not in n)


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _seek_content(file: BinaryIO, header: int) -> BinaryIO:
    """Move to an entry's content: the local header's lengths may differ from the directory's."""
    file.seek(header)
    local = file.read(_LOCAL_HEADER_BYTES)
    if len(local) < _LOCAL_HEADER_BYTES or not local.startswith(b"PK\x03\x04"):
        raise ValueError("no local header")
    lengths = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
    file.seek(lengths, os.SEEK_CUR)
    return file
