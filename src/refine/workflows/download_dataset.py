"""Downloads the archives of a dataset: no file has its name before it is complete and checked."""

import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from refine.coco_format.layout import INSTANCES_ZIP, PANOPTIC_ZIP
from refine.config.settings import DownloadSettings
from refine.errors import RefineError, first_line
from refine.resumable_download import MissingError, Retries, download_rest, size_of
from refine.runs.console import say
from refine.runs.folder_lock import lock_folder

COCO = "http://images.cocodataset.org"


@dataclass(frozen=True, slots=True)
class Archive:
    """A file to download.

    Attributes:
        folder: Its folder on COCO's server.
        size: Number of bytes.
        checksum: ``md5:HEX`` or ``sha256:HEX``; None if none is known, then the CRCs of the zip's
            entries are compared.
    """

    folder: str
    size: int
    checksum: str | None = None


DATASETS: Mapping[str, Mapping[str, Archive]] = {
    "coco_panoptic": {
        INSTANCES_ZIP: Archive("annotations", 252907541, "md5:f4bbac642086de4f52a3fdda2de5fa2c"),
        PANOPTIC_ZIP: Archive("annotations", 860725834),
        "val2017.zip": Archive("zips", 815585330, "md5:442b8da7639aecaf257c1dceb8ba8c80"),
        "train2017.zip": Archive("zips", 19336861798, "md5:cced6f7f71b7629ddf16f17bbcfab6b2"),
    }
}
"""Archives of each dataset, small ones first."""


def download(
    settings: DownloadSettings, datasets: Mapping[str, Mapping[str, Archive]] = DATASETS
) -> int:
    """Download all archives that are not there, print what became of each; returns 0.

    Raises:
        RefineError: An unknown name, not enough room, a folder that cannot be written to; or
            archives that could not be downloaded, after all others have been.
    """
    archives = choose_archives(settings, datasets)
    root, errors = Path(settings.root), list[RefineError]()
    with lock_folder(root, key="root"), _bars() as bars:
        try:
            _require_room(root, archives)
            for name, archive in archives.items():
                try:
                    say(f"{root / name}: {_provide(root / name, archive, settings, bars)}")
                except RefineError as error:
                    errors.append(error)
        except OSError as error:
            reason = first_line(error)
            raise RefineError(f"root={root}: {reason}; make room or choose another") from None
    for other in errors[1:]:
        say(f"failed: {other}")
    if errors:
        raise errors[0]
    return 0


def choose_archives(
    settings: DownloadSettings, datasets: Mapping[str, Mapping[str, Archive]]
) -> dict[str, Archive]:
    """The archives that are asked for, with the checksums that are given."""
    if settings.what not in datasets:
        raise RefineError(f"what={settings.what}: no such dataset; have {', '.join(datasets)}")
    known, given = datasets[settings.what], settings.checksums or {}
    for key, names in (("files", settings.files or ()), ("checksums", given)):
        if unknown := [name for name in names if name not in known]:
            raise RefineError(f"{key}: {unknown[0]} is no archive; have {', '.join(known)}")
    return {
        name: replace(archive, checksum=given.get(name, archive.checksum))
        for name, archive in known.items()
        if name in (settings.files or known)
    }


def _require_room(root: Path, archives: Mapping[str, Archive]) -> None:
    absent = {root / name: archive for name, archive in archives.items()}
    absent = {path: archive for path, archive in absent.items() if not path.exists()}
    needed = sum(archive.size - size_of(_part(path)) for path, archive in absent.items())
    if (free := shutil.disk_usage(root).free) < needed:
        raise RefineError(
            f"root={root}: {needed / 1e9:.1f} GB to download, {free / 1e9:.1f} GB free; make room, "
            "choose another folder, or fewer archives with files=[...]"
        )


def _provide(path: Path, archive: Archive, settings: DownloadSettings, bars: Progress) -> str:
    """Download an archive unless it is there; what became of it, in words."""
    if path.exists():
        if fault := _check(path, archive, bars):
            raise RefineError(f"{path}: {fault}; delete it to download it again")
        return "is there already"
    mirrors: list[str | None] = [*settings.mirrors] or [None]
    for mirror, after in zip(mirrors, [*mirrors[1:], None], strict=True):
        try:
            _complete(path, archive, mirror, settings, bars)
            break
        except RefineError as error:
            if after is None:
                raise
            say(f"{error}; goes on with {after}")
    return "complete and checked"


def _complete(
    path: Path, archive: Archive, mirror: str | None, settings: DownloadSettings, bars: Progress
) -> None:
    """Download what an archive lacks from one server, and give it its name once it is checked."""
    part = _part(path)
    resumes = part.exists()
    while True:
        url = _download(path.name, part, archive, mirror, settings, bars)
        fault = _check(part, archive, bars)
        if fault is None:
            break
        part.unlink()
        if not resumes:
            raise RefineError(
                f"{url}: {fault}; nothing was kept, choose another server with mirror=ADDRESS"
            )
        say(f"{part}: {fault}; what was there did not belong to it, so it is downloaded anew")
        resumes = False
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(path)


def _download(
    name: str,
    part: Path,
    archive: Archive,
    mirror: str | None,
    settings: DownloadSettings,
    bars: Progress,
) -> str:
    """Complete the part of an archive; returns its address."""
    base = (mirror or COCO).rstrip("/")
    urls = [f"{base}/{archive.folder}/{name}"]
    if mirror:
        urls.append(f"{base}/{name}")
    advice = "choose another server with mirror=ADDRESS"
    retries = Retries(attempts=settings.attempts, pause_s=settings.pause_s, advice=advice)
    bar = bars.add_task(name, total=archive.size, completed=size_of(part))
    try:
        for url in urls:
            try:
                download_rest(
                    url,
                    part,
                    size=archive.size,
                    retries=retries,
                    show=lambda have: bars.update(bar, completed=have),
                )
                return url
            except MissingError:
                if url == urls[-1]:
                    raise
    finally:
        bars.remove_task(bar)
    raise AssertionError("no address")


def _check(path: Path, archive: Archive, bars: Progress) -> str | None:
    bar = bars.add_task(f"checking {path.name}", total=None)
    try:
        return find_fault(path, archive)
    finally:
        bars.remove_task(bar)


def find_fault(path: Path, archive: Archive) -> str | None:
    """What is wrong with an archive: its size, its checksum or an entry of the zip."""
    if (size := path.stat().st_size) != archive.size:
        return f"has {size} bytes, not {archive.size}"
    if archive.checksum is not None:
        kind, _, expected = archive.checksum.partition(":")
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, kind).hexdigest()
        return None if actual == expected.lower() else f"has {kind} {actual}, not {expected}"
    try:
        with zipfile.ZipFile(path) as content:
            bad = content.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        return f"is no sound zip ({first_line(error)})"
    return None if bad is None else f"its entry {bad} is damaged"


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _bars() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    return Progress(*columns, TransferSpeedColumn(), TimeRemainingColumn(), transient=True)
