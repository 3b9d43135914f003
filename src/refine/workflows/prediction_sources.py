"""The images that a prediction is asked for: their order, the names of their results, their ids."""

import glob
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from refine.coco_format.annotations import load_image_ids
from refine.data.video import VIDEO_SUFFIXES
from refine.errors import RefineError

_RESULTS = ("overlays", "panoptic")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def find_video(source: str) -> Path | None:
    """The video file that a source is, if it is one by its ending."""
    path = Path(source)
    return path if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir() else None


def find_images(source: str, *, out: Path | None = None) -> dict[str, Path]:
    """Image files of a path, a folder with its subfolders or a glob, by their names in it.

    Numbers in names count as numbers, so frames come in their order. Hidden files are
    left out, and so are results of earlier predictions and the folder ``out``.

    Raises:
        RefineError: There are none.
    """
    base = Path(source)
    if base.is_dir():
        found = [p for p in base.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()]
        results = {p.parent / kind for p in base.rglob("panoptic.json") for kind in _RESULTS}
        results |= {out / kind for kind in _RESULTS} if out is not None else set()
        found = [p for p in found if results.isdisjoint(p.parents) and not _is_hidden(p, base)]
    elif base.is_file():
        base, found = base.parent, [base]
    else:
        found = [Path(p) for p in glob.glob(source, recursive=True) if Path(p).is_file()]  # noqa: PTH207 - absolute patterns too
        base = next(p for p in base.parents if not glob.has_magic(str(p)))
    if not found:
        raise RefineError(
            f"source={source}: no images there; give an image, a video, a folder with "
            f"{', '.join(SUFFIXES)}, or a quoted glob"
        )
    names = {p.relative_to(base).as_posix(): p for p in sorted(found)}
    return dict(sorted(names.items(), key=lambda item: _natural_key(item[0])))


def _natural_key(name: str) -> list[tuple[tuple[int, int | str], ...]]:
    """Folder by folder, digits as numbers: ``a2.png`` comes before ``a10.png``."""
    return [
        tuple((0, int(p)) if p.isdecimal() else (1, p) for p in re.split(r"(\d+)", part) if p)
        for part in name.split("/")
    ]


def keep_listed(images: dict[str, Path], ids_from: Path) -> dict[str, Path]:
    """The images that a COCO JSON lists, by names without their endings."""
    known = {PurePosixPath(name).stem for name in load_image_ids(ids_from)}
    kept = {name: path for name, path in images.items() if path.stem in known}
    if not kept:
        raise RefineError(f"{ids_from}: lists none of the images of source; give another JSON")
    return kept


def choose_png_names(names: Sequence[str]) -> list[str]:
    """Names of the results: ``a/b.png`` of ``a/b.jpg``, ``a/b.jpg.png`` if others are called so."""
    short = [PurePosixPath(name).with_suffix(".png").as_posix() for name in names]
    count = Counter(name.lower() for name in short)
    chosen = [s if count[s.lower()] == 1 else f"{n}.png" for s, n in zip(short, names, strict=True)]
    return chosen if len(set(chosen)) == len(names) else [f"{name}.png" for name in names]


def choose_image_ids(paths: Sequence[Path], *, ids_from: Path | None = None) -> list[int]:
    """The ids that a COCO JSON, ``ids_from``, gives to images of these names.

    A name's ending does not count, and folders only where names are not enough. Without the JSON:
    COCO's own ids if every file is called by one (``000000000139.jpg``), else 1, 2, ...

    Raises:
        RefineError: The JSON is malformed, or does not have an image, or two fit each other.
    """
    if ids_from is None:
        ids = {int(p.stem): p for p in paths if p.stem.isdecimal()}
        return list(ids if len(ids) == len(paths) else range(1, len(paths) + 1))
    known: dict[str, list[tuple[tuple[str, ...], int]]] = {}
    for name, image_id in load_image_ids(ids_from).items():
        path = PurePosixPath(name)
        known.setdefault(path.stem, []).append((path.parent.parts, image_id))
    found = [_look_up(path, known.get(path.stem, []), ids_from) for path in paths]
    owners = dict(zip(found, paths, strict=True))  # the last one of each
    for image, image_id in zip(paths, found, strict=True):
        other = owners[image_id]
        if other != image:
            raise RefineError(f"{image}: {ids_from} has one image for it and for {other}")
    return found


def _look_up(path: Path, found: list[tuple[tuple[str, ...], int]], ids_from: Path) -> int:
    if len(found) > 1:
        parents = path.absolute().parent.parts
        found = [(p, i) for p, i in found if parents[len(parents) - len(p) :] == p]
    if len(found) != 1:
        count = "two images" if found else "no image"
        raise RefineError(f"{path}: {ids_from} has {count} of this name; leave the file out")
    return found[0][1]


def _is_hidden(path: Path, base: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(base).parts)
