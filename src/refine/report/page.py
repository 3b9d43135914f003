"""The report: one HTML page that needs no network and no server."""

import base64
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
import pandas as pd

from refine import __version__
from refine.errors import RefineError
from refine.options import FusionOptions
from refine.report.bootstrap import NUM_RESAMPLES
from refine.report.curves import MAX_SERIES, draw_svg, list_charts
from refine.report.finished_run import FinishedRun, read_run
from refine.report.image_changes import (
    ImageSource,
    find_changes,
    read_from_folders,
    split_changes,
)
from refine.report.table_text import LEGEND, NOTHING, describe_notes, to_cells
from refine.report.tables import Table, build_tables
from refine.viz.image_files import encode_jpeg

MAX_PICTURE_BYTES = 12_000_000
"""Bytes of all pictures of a page, encoded."""

_MAX_WIDTH_PX = 640
_STRIP_WIDTH_PX = 1600  # several panels side by side
_COMPONENTS = 4  # rows of table 3 that are the paper's own
_RUN_COLUMNS = {
    "pq": "PQ",
    "pq_things": "PQ things",
    "pq_stuff": "PQ stuff",
    "ap_box": "AP box",
    "ap_mask": "AP mask",
    "consensus_gap": "consensus gap",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """What goes into a report.

    Attributes:
        baseline: Folder of the run that others are compared with; None is table 3's first row.
        compared: Folder of the run that is looked at closely; None is table 3's last row that has
            one.
        predictions: Prediction cache of the compared run, whose pair decisions are counted; None
            draws from the one that its evaluation names, if it does.
        baseline_predictions: Prediction cache of the baseline; None as above.
        data_root: Where the dataset of the caches lies now; None is where it was.
        num_images: Number of worst and of best images to show.
        num_resamples: Number of resamples of the bootstrap.
    """

    baseline: Path | None = None
    compared: Path | None = None
    predictions: Path | None = None
    baseline_predictions: Path | None = None
    data_root: Path | None = None
    num_images: int = 6
    num_resamples: int = NUM_RESAMPLES


class _Shown(NamedTuple):
    """A run that is looked at closely."""

    run: "pd.Series[Any]"
    counts: FinishedRun


def build_page(
    runs: pd.DataFrame,
    problems: Sequence[str],
    dataset: Mapping[str, Any] | None,
    *,
    options: ReportOptions,
) -> str:
    """The page as text.

    Args:
        runs: All runs.
        problems: A line for each folder that could not be read.
        dataset: Dataset that the tables are made for.
        options: What goes into it.

    Raises:
        RefineError: ``baseline`` or ``compared`` names no finished run of these.
    """
    tables = build_tables(runs, dataset, num_resamples=options.num_resamples)
    before, after = choose_pair(runs, tables, options)
    folder = None if after is None else after.counts.folder
    charts = [
        (chart, draw_svg(chart, prefix=f"chart{k}-"))
        for k, chart in enumerate(list_charts(runs, dataset, folder))
    ]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("refine.report"), autoescape=True, trim_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        version=__version__,
        legend=LEGEND,
        nothing=NOTHING,
        max_series=MAX_SERIES,
        dataset=dataset,
        tables=[(t, to_cells(t).to_dict("records"), describe_notes(t)) for t in tables],
        charts=charts,
        before=before,
        after=after,
        categories=None if after is None else _categories(before, after).to_dict("records"),
        images=None if before is None or after is None else _images(before, after, options),
        decisions=_count_decisions(options),
        run_columns=_RUN_COLUMNS,
        runs=runs.to_dict("records"),
        problems=problems,
    )


def choose_pair(
    runs: pd.DataFrame, tables: Sequence[Table], options: ReportOptions
) -> tuple[_Shown | None, _Shown | None]:
    """The baseline and the compared run, each None if it or its counts are not at hand.

    Raises:
        RefineError: A named folder holds no finished run of these.
    """
    rows = next((table.rows for table in tables if table.paper.number == 3), ())[:_COMPONENTS]
    present = [row.runs.iloc[0] for row in rows if len(row.runs)]
    baseline = present[0] if rows and len(rows[0].runs) else None
    compared = present[-1] if present else None
    if options.baseline is not None:
        baseline = _find(runs, options.baseline)
    if options.compared is not None:
        compared = _find(runs, options.compared)
    is_one = baseline is not None and compared is not None and baseline["name"] == compared["name"]
    return None if is_one else _load(baseline), _load(compared)


def _find(runs: pd.DataFrame, folder: Path) -> "pd.Series[Any]":
    for _, run in runs[runs["state"] == "finished"].iterrows():
        if run["folder"] is not None and run["folder"].resolve() == folder.resolve():
            return run
    raise RefineError(f"{folder}: no finished run among those given; name one of them")


def _load(run: "pd.Series[Any] | None") -> _Shown | None:
    if run is None or run["folder"] is None:
        return None
    with contextlib.suppress(RefineError):
        return _Shown(run, read_run(run["folder"]))
    return None


def _categories(before: _Shown | None, after: _Shown) -> pd.DataFrame:
    """Name, kind and PQ of every category that is there, with its change to the baseline."""
    quality, is_present = _category_quality(after.counts)
    categories = after.counts.categories.categories
    kinds = ["thing" if c.is_thing else "stuff" for c in categories]
    frame = pd.DataFrame({"name": [c.name for c in categories], "kind": kinds, "pq": quality})
    if before is not None and before.counts.categories == after.counts.categories:
        quality_before, is_present_before = _category_quality(before.counts)
        frame["change"] = quality - quality_before
        is_present |= is_present_before
    return frame[is_present]


def _category_quality(run: FinishedRun) -> tuple[np.ndarray, np.ndarray]:
    """``[C]`` PQ, and whether the category is there at all."""
    iou, halves = run.iou.sum(axis=0), run.halves.sum(axis=0)
    return np.divide(iou, halves, out=np.zeros_like(iou), where=halves > 0), halves > 0


def _images(before: _Shown, after: _Shown, options: ReportOptions) -> dict[str, Any]:
    """Pictures of the images that lose and gain most."""
    try:
        changes = find_changes(before.counts, after.counts)
        source, num_drawn = _open_caches(before, after, options), None
        if source is None:
            folders = {"baseline": before.counts.folder, "compared": after.counts.folder}
            source, drawn = read_from_folders({c: f / "pictures" for c, f in folders.items()})
            changes, num_drawn = changes[changes.index.isin(drawn)], len(drawn)
        budget, limit = [MAX_PICTURE_BYTES], _MAX_WIDTH_PX if num_drawn is None else _STRIP_WIDTH_PX
        losses, gains = split_changes(changes, options.num_images)
        parts = {
            title: [
                (k, scores, embed_pictures(source(k), limit, budget))
                for k, scores in zip(part.index.tolist(), part.to_dict("records"), strict=True)
            ]
            for title, part in (("Worst changes", losses), ("Best changes", gains))
        }
    except RefineError as error:
        return {"error": str(error)}
    return {"parts": parts, "num_drawn": num_drawn}


def _open_caches(before: _Shown, after: _Shown, options: ReportOptions) -> ImageSource | None:
    """Draws from the prediction caches of both runs; None if there are none."""
    folders = {
        "baseline": options.baseline_predictions or before.run["cache"],
        "compared": options.predictions or after.run["cache"],
    }
    if None in folders.values():
        return None
    from refine.report.cached_images import open_pictures  # imports torch, which takes its time

    configs = {"baseline": before.run["config"], "compared": after.run["config"]}
    return open_pictures(configs, folders, data_root=options.data_root)


def _count_decisions(options: ReportOptions) -> Mapping[str, Any]:
    """Pair decisions of every order that the cache of the compared run can give."""
    if options.predictions is None:
        return {}
    from refine.report.cached_images import CachedImages
    from refine.report.pair_decisions import count_decisions, list_rules

    images = CachedImages(options.predictions, data_root=options.data_root)
    rules = list_rules(images.reader.header)
    return count_decisions(images, rules, fusion=FusionOptions())


def embed_pictures(
    pictures: Mapping[str, np.ndarray], max_width_px: int, budget: list[int]
) -> list[tuple[str, str, int, int]] | None:
    """Pictures as part of a page.

    Args:
        pictures: ``[H, W, 3]`` uint8 by caption.
        max_width_px: Width that larger ones are shrunk to.
        budget: Its only entry, the bytes left on the page, is reduced.

    Returns:
        Caption, ``data:`` address, width and height; None if there is no room left.
    """
    embedded = []
    for caption, picture in pictures.items():
        text = base64.b64encode(encode_jpeg(picture, max_width_px=max_width_px)).decode()
        budget[0] -= len(text)
        if budget[0] < 0:
            return None
        height, width = picture.shape[:2]
        size = (min(width, max_width_px), max(1, round(height * min(1, max_width_px / width))))
        embedded.append((caption, f"data:image/jpeg;base64,{text}", *size))
    return embedded
