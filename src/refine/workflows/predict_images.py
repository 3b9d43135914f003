"""Predicts any images: overlays, panoptic PNGs and a COCO-panoptic JSON."""

import glob
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from rich.progress import track

from refine.api.predictor import Predictor, choose_device
from refine.coco_format.annotations import load_image_ids
from refine.coco_format.category_choice import choose_categories
from refine.coco_format.writer import PanopticWriter
from refine.config.settings import PredictSettings
from refine.errors import RefineError
from refine.runs.checkpoint import read_checkpoint
from refine.runs.console import say
from refine.runs.restore import restore_pipeline

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def predict(settings: PredictSettings) -> Path:
    """Write ``overlays/``, ``panoptic/`` and ``panoptic.json`` of images; the folder of all that.

    Raises:
        RefineError: No images, a damaged image, a bad checkpoint or device.
    """
    paths = find_images(settings.source)
    checkpoint = read_checkpoint(Path(settings.ckpt_path))
    sections = settings.choose_sections(checkpoint.config)
    pipeline = restore_pipeline(checkpoint, sections).to(choose_device(settings.device))
    choice = None
    if any(name.startswith("data.categories") for name in settings.named):
        old = checkpoint.categories
        choice = choose_categories(old, sections.data.categories, source=settings.ckpt_path)
        if choice is not None:
            say(f"{settings.ckpt_path}: {choice.describe(old)}")
    predictor = Predictor(
        pipeline, categories=checkpoint.categories, image=sections.data.image, choice=choice
    )
    out = Path(settings.out)
    ids_from = None if settings.ids_from is None else Path(settings.ids_from)
    image_ids = choose_image_ids(paths, ids_from=ids_from)
    with PanopticWriter(out, predictor.categories) as writer:
        for image_id, path in zip(image_ids, track(paths, description="predicting"), strict=True):
            result = predictor.predict(path)
            result.write_to(writer, image_id, file_name=path.name, labels=settings.labels)
    say(f"{len(paths)} images; overlays: {out / 'overlays'}; results: {out / 'panoptic.json'}")
    if image_ids == list(range(1, len(paths) + 1)) and ids_from is None:
        say("image ids are 1, 2, ...; to score, predict with ids_from=THE_ANNOTATIONS.json")
    return out


def find_images(source: str) -> list[Path]:
    """Image files of a path, a folder or a glob, sorted.

    Raises:
        RefineError: There are none, or two would write the same files.
    """
    path = Path(source)
    if path.is_dir():
        found = [p for p in path.iterdir() if p.suffix.lower() in SUFFIXES]
    elif path.is_file():
        found = [path]
    else:
        found = [Path(p) for p in glob.glob(source, recursive=True) if Path(p).is_file()]  # noqa: PTH207 - absolute patterns too
    if not found:
        raise RefineError(
            f"source={source}: no images there; give an image, a folder with "
            f"{', '.join(SUFFIXES)}, or a quoted glob"
        )
    stem, count = max(Counter(p.stem for p in found).items(), key=lambda item: item[1])
    if count > 1:
        raise RefineError(
            f"source={source}: several images are called {stem!r}, and so would be their results; "
            "predict their folders one by one"
        )
    return sorted(found)


def choose_image_ids(paths: Sequence[Path], *, ids_from: Path | None = None) -> list[int]:
    """The ids that a COCO JSON, ``ids_from``, gives to images of these names.

    A name's ending does not count, and folders only where names are not enough. Without the JSON:
    COCO's own ids if every file is called by one (``000000000139.jpg``), else 1, 2, ...

    Raises:
        RefineError: The JSON is malformed, or does not have an image, or it fits two.
    """
    if ids_from is None:
        ids = {int(p.stem): p for p in paths if p.stem.isdecimal()}
        return list(ids if len(ids) == len(paths) else range(1, len(paths) + 1))
    known: dict[str, list[tuple[tuple[str, ...], int]]] = {}
    for name, image_id in load_image_ids(ids_from).items():
        path = PurePosixPath(name)
        known.setdefault(path.stem, []).append((path.parent.parts, image_id))
    return [_look_up(path, known.get(path.stem, []), ids_from) for path in paths]


def _look_up(path: Path, found: list[tuple[tuple[str, ...], int]], ids_from: Path) -> int:
    if len(found) > 1:
        parents = path.absolute().parent.parts
        found = [(p, i) for p, i in found if parents[len(parents) - len(p) :] == p]
    if len(found) != 1:
        count = "two images" if found else "no image"
        raise RefineError(f"{path}: {ids_from} has {count} of this name; leave the file out")
    return found[0][1]
