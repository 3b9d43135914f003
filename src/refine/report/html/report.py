"""From runs to the page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from refine.errors import RefineError
from refine.report.ablation import Table, build_tables
from refine.report.bootstrap import NUM_RESAMPLES
from refine.report.entries import Dataset, Entry
from refine.report.html.elements import Section, paragraph
from refine.report.html.page import build_page
from refine.report.html.pictures import PictureBudget, draw_changes, read_from_folders
from refine.report.html.sections import (
    categories_section,
    curves_section,
    pairs_section,
    runs_section,
    tables_section,
)
from refine.report.images import ImageChange, ImageSource, find_largest_changes
from refine.report.runs import Run

if TYPE_CHECKING:  # importing it imports torch, which only caches need
    from refine.report.pair_decisions import PairDecisions

OpenPictures = Callable[[Entry, Entry], ImageSource | None]
"""Draws images of baseline and compared run from prediction caches; None if there are none."""

_COMPONENTS = 4  # rows of table 3 that are the paper's own


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """What goes into a report.

    Attributes:
        baseline: Folder of the run that others are compared with; None is table 3's first row.
        compared: Folder of the run that is looked at closely; None is table 3's last row that has
            one.
        num_images: Worst and best images to show, each.
        num_resamples: Of the bootstrap.
        pair_decisions: Counts by rule.
    """

    baseline: Path | None = None
    compared: Path | None = None
    num_images: int = 6
    num_resamples: int = NUM_RESAMPLES
    pair_decisions: Mapping[str, "PairDecisions"] = field(default_factory=dict)


def build_report(
    entries: Sequence[Entry],
    problems: Sequence[str],
    dataset: Dataset | None,
    *,
    options: ReportOptions,
    open_pictures: OpenPictures,
) -> str:
    """The page as text.

    Args:
        entries: All runs.
        problems: A line for each folder that could not be read.
        dataset: That the tables are made for.
        options: What goes into it.
        open_pictures: Called if both runs are there.

    Raises:
        RefineError: ``baseline`` or ``compared`` names no finished run among the entries.
    """
    tables = build_tables(entries, dataset, num_resamples=options.num_resamples)
    default_baseline, default_compared = find_extremes(tables)
    baseline = _find(entries, options.baseline) or default_baseline
    compared = _find(entries, options.compared) or default_compared
    if baseline is compared:
        baseline = None
    before, after = _load(baseline), _load(compared)
    sections = [
        tables_section(tables),
        curves_section(entries, dataset, compared),
        categories_section(before, after),
        _images_section(before, after, number=options.num_images, open_pictures=open_pictures),
        pairs_section(options.pair_decisions),
        runs_section(entries, problems),
    ]
    number = sum(entry.state == "finished" for entry in entries)
    subtitle = f"{number} finished of {len(entries)} runs; tables of " + (
        "no dataset yet" if dataset is None else dataset.label
    )
    return build_page("REFINE: ablation report", subtitle, sections)


def find_extremes(tables: Sequence[Table]) -> tuple[Entry | None, Entry | None]:
    """The first run of table 3's first row, and that of its last row that has one."""
    rows = next((table.rows for table in tables if table.paper.number == 3), ())
    present = [row.entries[0] for row in rows[:_COMPONENTS] if row.entries]
    if not present:
        return None, None
    return (present[0] if rows[0].entries else None), present[-1]


def _find(entries: Sequence[Entry], folder: Path | None) -> Entry | None:
    if folder is None:
        return None
    for entry in entries:
        is_same = entry.folder is not None and entry.folder.resolve() == folder.resolve()
        if is_same and entry.state == "finished":
            return entry
    raise RefineError(f"{folder}: no finished run among those given; name one of them")


def _load(entry: Entry | None) -> tuple[Entry, Run] | None:
    """With its counts; None if they are not at hand."""
    if entry is None:
        return None
    try:
        return entry, entry.load()
    except RefineError:
        return None


def _images_section(
    before: tuple[Entry, Run] | None,
    after: tuple[Entry, Run] | None,
    *,
    number: int,
    open_pictures: OpenPictures,
) -> Section:
    if before is None or after is None:
        hint = "Two runs are needed: --baseline RUN and --compared RUN."
        return Section("images", "Images", paragraph(hint, kind="faint"))
    try:
        changes = find_largest_changes(before[1], after[1], number=len(after[1].image_ids))
        source, note = open_pictures(before[0], after[0]), ""
        is_strip = source is None
        if source is None:
            source, changes, note = _use_drawn(before[0], after[0], changes)
        body = paragraph(note, kind="faint") if note else ""
        budget = PictureBudget()
        for title, part in zip(("Worst changes", "Best changes"), changes, strict=True):
            body += draw_changes(title, part[:number], source, is_strip=is_strip, budget=budget)
    except RefineError as error:
        body = paragraph(f"Not to be drawn: {error}")
    text = f"{after[0].name} against {before[0].name}; mean PQ of the categories in the image."
    return Section("images", "Images", paragraph(text, kind="faint") + body)


_Changes = tuple[list[ImageChange], list[ImageChange]]


def _use_drawn(before: Entry, after: Entry, changes: _Changes) -> tuple[ImageSource, _Changes, str]:
    """The pictures that both runs drew themselves, and a note on it."""
    folders = {
        name: entry.folder / "pictures"
        for name, entry in (("baseline", before), ("compared", after))
        if entry.folder is not None
    }
    source, drawn = read_from_folders(folders)
    losses, gains = ([c for c in part if c.image_id in drawn] for part in changes)
    note = (
        f"Of the {len(drawn)} images that both runs have drawn (draw=N). With prediction caches "
        "(evaluations with predictions=, or --predictions) these are the worst and best of all."
    )
    return source, (losses, gains), note
