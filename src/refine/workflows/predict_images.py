"""Predicts any images: overlays, panoptic PNGs and a COCO-panoptic JSON."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import asdict, dataclass
from itertools import islice, tee
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress as ProgressBar

from refine.api.predictor import Input, Predictor, choose_device, has_half_units, read_input
from refine.coco_format.annotations import load_image_table
from refine.coco_format.category_choice import choose_categories
from refine.coco_format.submission import check_submission, name_submission, write_submission
from refine.config.instantiate import to_options
from refine.config.settings import PredictSettings, Sections, is_place
from refine.data.video import count_frames, read_frames
from refine.errors import RefineError
from refine.options import CategoryOptions
from refine.runs.checkpoint import Checkpoint, hash_weights, read_checkpoint
from refine.runs.console import say
from refine.runs.folder_lock import lock_folder
from refine.runs.restore import restore_pipeline
from refine.workflows.prediction_files import PredictionFiles
from refine.workflows.prediction_progress import Progress
from refine.workflows.prediction_sources import (
    choose_image_ids,
    choose_png_names,
    find_images,
    find_video,
    keep_listed,
)
from refine.workflows.worker_pool import open_pool, submit_ahead


@dataclass(frozen=True, slots=True)
class _Task:
    """An image: its name, its file, that of its PNGs, its id; ``[H, W, 3]`` if it is a frame."""

    name: str
    path: Path
    png_name: str
    image_id: int
    frame: np.ndarray | None = None

    @property
    def stamp(self) -> list[int]:
        """Size and time of the file, which tell whether it has changed."""
        state = self.path.stat()
        return [state.st_size, state.st_mtime_ns]


def predict(settings: PredictSettings) -> Path:
    """Write ``overlays/``, ``panoptic/`` and ``panoptic.json`` of images; the folder of all that.

    What an interrupted prediction of the same settings has finished there is not computed again.

    Raises:
        RefineError: No images, a bad checkpoint or device; or images that cannot be read, after the
            results of all others have been written.
    """
    out, bad = Path(settings.out), list[RefineError]()
    tasks, total = _find_tasks(settings, bad)
    checkpoint = read_checkpoint(Path(settings.ckpt_path))
    sections = settings.choose_sections(checkpoint.config)
    predictor = _build_predictor(settings, checkpoint, sections)
    files = PredictionFiles(out=out, overlay=settings.overlay, rle=settings.rle)
    with lock_folder(out, key="out"):
        progress = Progress(out, _describe(settings, checkpoint, sections))
        ids = _predict_all(predictor, tasks, files, progress, settings, bad, total)
        entries = {name: progress.entries[name] for name in ids if name in progress.entries}
        files.write_summary(entries, ids, predictor.categories)
        progress.remove()
    overlays = f"; overlays: {out / 'overlays'}" if settings.overlay is not None else ""
    say(f"{len(entries)} images{overlays}; results: {out / 'panoptic.json'}")
    for reason in bad:
        say(f"left out: {reason}")
    if settings.submission is not None:
        _submit(settings, {ids[name]: entry for name, entry in entries.items()}, predictor)
    if bad and find_video(settings.source):
        raise bad[0]
    if bad:
        raise RefineError(f"{len(bad)} of {len(ids)} images left out, the first one: {bad[0]}")
    return out


def _find_tasks(
    settings: PredictSettings, bad: list[RefineError]
) -> tuple[Iterable[_Task], int | None]:
    """The images of the source and their number, if it is known."""
    video = find_video(settings.source)
    if video is None:
        images = _list_images(settings)
        return images, len(images)
    return _list_frames(video, settings, bad), count_frames(video, step=settings.frame_step)


def _list_images(settings: PredictSettings) -> list[_Task]:
    if settings.frame_step != 1:
        raise RefineError(f"frame_step={settings.frame_step}: source= is no video; leave it out")
    ids_from = settings.ids_from and Path(settings.ids_from)
    images = find_images(settings.source, out=Path(settings.out))
    if settings.submission is not None:
        if not ids_from:
            raise RefineError("ids_from: a submission needs the JSON of the split's images")
        name_submission(settings.submission, ids_from)
        images = keep_listed(images, ids_from)
    ids = choose_image_ids([*images.values()], ids_from=ids_from or None)
    if ids == list(range(1, len(ids) + 1)) and not ids_from:
        say("image ids are 1, 2, ...; to score, predict with ids_from=THE_ANNOTATIONS.json")
    png_names = choose_png_names([*images])
    return [
        _Task(name, path, png_name, image_id)
        for (name, path), png_name, image_id in zip(images.items(), png_names, ids, strict=True)
    ]


def _list_frames(video: Path, settings: PredictSettings, bad: list[RefineError]) -> Iterator[_Task]:
    """The frames of a video as images; what is wrong with its end goes to ``bad``."""
    if settings.ids_from is not None or settings.submission is not None:
        raise RefineError("ids_from, submission: frames have their numbers as ids; leave both out")
    frames = read_frames(video, step=settings.frame_step)

    def decode() -> Iterator[_Task]:
        try:
            for number, frame in frames:
                name = f"{video.stem}_{number:06d}.png"
                yield _Task(name, video, name, number, frame)
        except RefineError as error:
            bad.append(error)

    return decode()


def _build_predictor(
    settings: PredictSettings, checkpoint: Checkpoint, sections: Sections
) -> Predictor:
    device = choose_device(settings.device)
    pipeline = restore_pipeline(checkpoint, sections).to(device)
    pipeline.computes_in_half = settings.fast and has_half_units(device)
    choice = None
    if any(name.startswith("data.categories") for name in settings.named):
        old = checkpoint.categories
        given = to_options(settings.data["categories"], CategoryOptions)  # not the checkpoint's own
        choice = choose_categories(old, given, source=settings.ckpt_path)
        if choice is not None:
            say(f"{settings.ckpt_path}: {choice.describe(old)}")
    return Predictor(
        pipeline, categories=checkpoint.categories, image=sections.data.image, choice=choice
    )


def _describe(
    settings: PredictSettings, checkpoint: Checkpoint, sections: Sections
) -> dict[str, Any]:
    """All that the results of an image depend on, besides the image."""
    chosen = {k: v for k, v in asdict(sections).items() if not is_place(k)}
    return {
        "ckpt_path": hash_weights(checkpoint.weights),
        **chosen,
        "data.categories": settings.data["categories"],
        "overlay": settings.overlay and asdict(settings.overlay),
        "batch_size": settings.batch_size,
        **({"fast": True} if settings.fast else {}),  # older folders know no such key
        "rle": settings.rle,
    }


def _predict_all(
    predictor: Predictor,
    tasks: Iterable[_Task],
    files: PredictionFiles,
    progress: Progress,
    settings: PredictSettings,
    bad: list[RefineError],
    total: int | None,
) -> dict[str, int]:
    """Write the files of all images that can be read; names and ids of all, in their order."""
    if progress.entries:
        say(f"goes on after {len(progress.entries)} images")
    ids: dict[str, int] = {}
    ahead = 2 * max(settings.batch_size, settings.num_workers) if settings.num_workers else 0

    def find_missing() -> Iterator[_Task]:
        for task in tasks:
            ids[task.name] = task.image_id
            if not _is_done(task, files, progress.entries):
                yield task

    with open_pool(settings.num_workers) as pool, ProgressBar() as bar:
        shown = bar.add_task("predicting", total=total)
        writing: deque[tuple[_Task, Future[dict[str, Any]]]] = deque()
        readable = _read_all(find_missing(), predictor, pool, ahead, bad)
        while batch := list(islice(readable, settings.batch_size)):
            results = predictor.segment([given for _, given in batch])
            for (task, _), result in zip(batch, results, strict=True):
                writing.append((task, pool.submit(files.write, result, task.png_name)))
            while len(writing) > ahead:
                _finish(*writing.popleft(), progress)
            bar.update(shown, completed=len(ids) - len(writing))
        for task, written in writing:
            _finish(task, written, progress)
        bar.update(shown, completed=len(ids))
    return ids


def _is_done(task: _Task, files: PredictionFiles, entries: Mapping[str, Any]) -> bool:
    entry = entries.get(task.name, {})
    is_same = (entry.get("png"), entry.get("stamp")) == (task.png_name, task.stamp)
    return is_same and files.are_whole(task.png_name)


def _read_all(
    tasks: Iterable[_Task],
    predictor: Predictor,
    pool: Executor,
    ahead: int,
    bad: list[RefineError],
) -> Iterator[tuple[_Task, Input]]:
    """The images that can be read, in their order; the errors of the others go to ``bad``."""
    tasks, given = tee(tasks)
    arguments = ((t.path if t.frame is None else t.frame, t.name, predictor.image) for t in given)
    reading = submit_ahead(pool, read_input, arguments, ahead=ahead)
    for task, read in zip(tasks, reading, strict=True):
        try:
            yield task, read.result()
        except RefineError as error:
            bad.append(error)


def _finish(task: _Task, written: "Future[dict[str, Any]]", progress: Progress) -> None:
    progress.add(task.name, {**written.result(), "stamp": task.stamp})


def _submit(
    settings: PredictSettings, entries: Mapping[int, Mapping[str, Any]], predictor: Predictor
) -> None:
    assert settings.ids_from is not None
    assert settings.submission is not None
    ids_from, out = Path(settings.ids_from), Path(settings.out)
    table = load_image_table(ids_from)
    path = out / f"{name_submission(settings.submission, ids_from)}.zip"
    write_submission(path, entries, table, out / "panoptic")
    check_submission(path, table, predictor.categories)
    say(f"submission, checked: {path}")
