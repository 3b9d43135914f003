"""Predicts any images: overlays, panoptic PNGs and a COCO-panoptic JSON."""

import glob
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from rich.progress import track

from refine.api.predictor import Predictor, choose_device
from refine.coco_format.annotations import load_image_ids
from refine.coco_format.category_choice import choose_categories
from refine.coco_format.writer import PanopticWriter
from refine.config.instantiate import to_options
from refine.config.settings import PredictSettings
from refine.errors import RefineError
from refine.options import CategoryOptions
from refine.runs.checkpoint import read_checkpoint
from refine.runs.console import say
from refine.runs.restore import restore_pipeline

_RESULTS = ("overlays", "panoptic")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def predict(settings: PredictSettings) -> Path:
    """Write ``overlays/``, ``panoptic/`` and ``panoptic.json`` of images; the folder of all that.

    Raises:
        RefineError: No images, a bad checkpoint or device; or images that cannot be read, after the
            results of all others have been written.
    """
    out = Path(settings.out)
    images = find_images(settings.source, out=out)
    checkpoint = read_checkpoint(Path(settings.ckpt_path))
    sections = settings.choose_sections(checkpoint.config)
    pipeline = restore_pipeline(checkpoint, sections).to(choose_device(settings.device))
    choice = None
    if any(name.startswith("data.categories") for name in settings.named):
        old = checkpoint.categories
        given = to_options(settings.data["categories"], CategoryOptions)  # not the checkpoint's own
        choice = choose_categories(old, given, source=settings.ckpt_path)
        if choice is not None:
            say(f"{settings.ckpt_path}: {choice.describe(old)}")
    predictor = Predictor(
        pipeline, categories=checkpoint.categories, image=sections.data.image, choice=choice
    )
    ids_from = None if settings.ids_from is None else Path(settings.ids_from)
    image_ids = choose_image_ids([*images.values()], ids_from=ids_from)
    bad = _predict_all(predictor, images, image_ids, out, labels=settings.labels)
    done = f"{len(images) - len(bad)} images"
    say(f"{done}; overlays: {out / 'overlays'}; results: {out / 'panoptic.json'}")
    if image_ids == list(range(1, len(images) + 1)) and ids_from is None:
        say("image ids are 1, 2, ...; to score, predict with ids_from=THE_ANNOTATIONS.json")
    if bad:
        for reason in bad:
            say(f"left out: {reason}")
        raise RefineError(f"{len(bad)} of {len(images)} images left out, the first one: {bad[0]}")
    return out


def _predict_all(
    predictor: Predictor,
    images: Mapping[str, Path],
    image_ids: Sequence[int],
    out: Path,
    *,
    labels: bool,
) -> list[RefineError]:
    """Write the results of all images that can be read; the reasons of the others."""
    rows = zip(images.items(), image_ids, choose_png_names([*images]), strict=True)
    bad: list[RefineError] = []
    with PanopticWriter(out, predictor.categories) as writer:
        for (name, path), image_id, png_name in track(
            rows, total=len(images), description="predicting"
        ):
            try:
                result = predictor.predict(path)
            except RefineError as error:
                bad.append(error)
                continue
            result.write_to(writer, image_id, file_name=name, png_name=png_name, labels=labels)
    return bad


def find_images(source: str, *, out: Path | None = None) -> dict[str, Path]:
    """Image files of a path, a folder with its subfolders or a glob, by their names in it, sorted.

    Hidden files are left out, and so are results of earlier predictions and the folder ``out``.

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
            f"source={source}: no images there; give an image, a folder with "
            f"{', '.join(SUFFIXES)}, or a quoted glob"
        )
    return {p.relative_to(base).as_posix(): p for p in sorted(found)}


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
