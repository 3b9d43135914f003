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
from refine.report.bootstrap import NUM_RESAMPLES
from refine.report.curves import MAX_SERIES, draw_svg, list_charts
from refine.report.finished_run import FinishedRun, divide, read_run
from refine.report.image_changes import find_changes, read_from_folders, split_changes
from refine.report.paper import read_content
from refine.report.table_text import LEGEND, NOTHING, describe_notes, to_cells
from refine.report.tables import Table, build_tables
from refine.viz.image_files import encode_jpeg

MAX_PICTURE_BYTES = 12_000_000
"""Bytes of all pictures of a page, encoded."""

_MAX_WIDTH_PX = 640
_STRIP_WIDTH_PX = 1600  # several panels side by side
_COMPONENTS = 5  # rows of table 3 that lead to the whole: the paper's, and the control of IBPP
_RUN_COLUMNS = ("pq", "pq_things", "pq_stuff", "ap_box", "ap_mask", "consensus_gap")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """What goes into a report.

    Attributes:
        baseline: Folder of the run to compare with; None is table 3's first row.
        compared: Folder of the run that is looked at closely; None is table 3's last row with one.
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
    """The page as text: tables of all runs on a dataset, and a line of each folder not read.

    Raises:
        RefineError: ``baseline`` or ``compared`` names no finished run of these.
    """
    tables = build_tables(runs, dataset, num_resamples=options.num_resamples)
    before, after = _choose_pair(runs, tables, options)
    charts = list_charts(runs, dataset, None if after is None else after.counts.folder)
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
        charts=[(chart, draw_svg(chart, prefix=f"chart{k}-")) for k, chart in enumerate(charts)],
        before=before,
        after=after,
        categories=None if after is None else _categories(before, after).to_dict("records"),
        images=None if before is None or after is None else _images(before, after, options),
        decisions=_count_decisions(options),
        run_columns={key: read_content()["columns"][key] for key in _RUN_COLUMNS},
        runs=runs.to_dict("records"),
        problems=problems,
    )


def _choose_pair(
    runs: pd.DataFrame, tables: Sequence[Table], options: ReportOptions
) -> tuple[_Shown | None, _Shown | None]:
    """The baseline and the compared run, each None if it or its counts are not at hand."""
    rows = next((table.rows for table in tables if table.paper.number == 3), ())[:_COMPONENTS]
    present = [row.runs.iloc[0] for row in rows if len(row.runs)]
    baseline = present[0] if rows and len(rows[0].runs) else None
    baseline = _find(runs, options.baseline) if options.baseline else baseline
    compared = present[-1] if present else None
    compared = _find(runs, options.compared) if options.compared else compared
    is_one = baseline is not None and compared is not None and baseline["name"] == compared["name"]
    return None if is_one else _load(baseline), _load(compared)


def _find(runs: pd.DataFrame, folder: Path) -> "pd.Series[Any]":
    for _, run in runs[runs["state"] == "finished"].iterrows():
        if run["folder"] is not None and run["folder"].resolve() == folder.resolve():
            return run
    raise RefineError(f"{folder}: no finished run among those given; name one of them")


def _load(run: "pd.Series[Any] | None") -> _Shown | None:
    if run is not None and run["folder"] is not None:
        with contextlib.suppress(RefineError):
            return _Shown(run, read_run(run["folder"]))
    return None


def _categories(before: _Shown | None, after: _Shown) -> pd.DataFrame:
    """Name, kind and PQ of every category that is there, with its change to the baseline."""
    counts, categories = after.counts, after.counts.categories.categories
    quality, is_present = divide(counts.iou.sum(axis=0), counts.halves.sum(axis=0))
    kinds = ["thing" if c.is_thing else "stuff" for c in categories]
    frame = pd.DataFrame({"name": [c.name for c in categories], "kind": kinds, "pq": quality})
    if before is not None and before.counts.categories == counts.categories:
        reference = divide(before.counts.iou.sum(axis=0), before.counts.halves.sum(axis=0))
        frame["change"] = quality - reference[0]
        is_present |= reference[1]
    return frame[is_present]


def _images(before: _Shown, after: _Shown, options: ReportOptions) -> dict[str, Any]:
    """Pictures of the images that lose and gain most, from the runs' caches or what they drew."""
    shown = {"baseline": before, "compared": after}
    caches = {
        "baseline": options.baseline_predictions or before.run["cache"],
        "compared": options.predictions or after.run["cache"],
    }
    num_drawn: int | None = None
    try:
        changes = find_changes(before.counts, after.counts)
        if None in caches.values():
            folders = {c: s.counts.folder / "pictures" for c, s in shown.items()}
            source, drawn = read_from_folders(folders)
            changes = changes[changes.index.isin(drawn)]
            limit, num_drawn = _STRIP_WIDTH_PX, len(drawn)
        else:
            from refine.report.cached_images import open_pictures  # torch takes its time

            configs = {c: s.run["config"] for c, s in shown.items()}
            source = open_pictures(configs, caches, data_root=options.data_root)
            limit = _MAX_WIDTH_PX
        budget, (worst, best) = [MAX_PICTURE_BYTES], split_changes(changes, options.num_images)
        parts = {
            title: [
                (k, scores, embed_pictures(source(k), limit, budget))
                for k, scores in zip(part.index.tolist(), part.to_dict("records"), strict=True)
            ]
            for title, part in (("Worst changes", worst), ("Best changes", best))
        }
    except RefineError as error:
        return {"error": str(error)}
    return {"parts": parts, "num_drawn": num_drawn}


def _count_decisions(options: ReportOptions) -> dict[Any, Any]:
    """Pair decisions of every order that the cache of the compared run can give."""
    if options.predictions is None:
        return {}
    from refine.report.cached_images import CachedImages, count_decisions, list_rules

    images = CachedImages(options.predictions, data_root=options.data_root)
    return count_decisions(images, list_rules(images.reader.header)).to_dict("index")


def embed_pictures(
    pictures: Mapping[str, np.ndarray], max_width_px: int, budget: list[int]
) -> list[tuple[str, str, int, int]] | None:
    """Caption, ``data:`` address, width and height of each picture (``[H, W, 3]`` uint8).

    Larger ones than ``max_width_px`` are shrunk. The only entry of ``budget``, the bytes left on
    the page, is reduced; None if there is no room left.
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
