"""The dataset doctor: all that is wrong with a dataset at once, by the readers' own checks."""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from refine.atomic import write_text
from refine.coco_format.layout import DatasetFiles, open_split
from refine.config.settings import CheckSettings
from refine.data.images import has_two_readings
from refine.data.outline_fit import find_uncovered
from refine.data.rows import ImageRow, original_mask, read_row
from refine.errors import Findings, RefineError
from refine.fusion.overlaps import pair_overlaps
from refine.runs.console import say


@dataclass(slots=True)
class SplitReport:
    """What was found in a split; ``statistics`` are plain values, empty if it cannot be opened."""

    findings: Findings = field(default_factory=Findings)
    statistics: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain containers: problems by kind, with counts and the first messages; statistics."""
        problems = [
            {"kind": kind, "count": count, "examples": self.findings.examples[kind]}
            for kind, count in self.findings.counts.items()
        ]
        return {"problems": problems, "statistics": self.statistics}


@dataclass(slots=True)
class _ImageReport:
    findings: Findings = field(default_factory=Findings)
    void_px: int = 0
    overlaps: int = 0


def check(settings: CheckSettings) -> int:
    """Check a dataset, print what was found and write it as JSON if asked for; returns 0.

    Raises:
        RefineError: There are problems: how many.
    """
    options = settings.data
    splits = settings.splits or [options.train_split, options.val_split]
    reports = {split: check_split(settings, split) for split in dict.fromkeys(splits)}
    for split, report in reports.items():
        for line in _describe(split, report):
            say(line)
    if settings.json is not None:
        content = {split: report.to_json() for split, report in reports.items()}
        try:
            write_text(Path(settings.json), json.dumps(content, indent=1) + "\n")
        except OSError as error:
            raise RefineError(f"json={settings.json}: {error.strerror}; choose another") from None
    counts = [count for r in reports.values() for count in r.findings.counts.values()]
    if counts:
        kinds = len({kind for r in reports.values() for kind in r.findings.counts})
        raise RefineError(
            f"{', '.join(reports)}: {sum(counts)} problems of {kinds} kinds are listed above; mend "
            "them"
        )
    return 0


def check_split(settings: CheckSettings, split: str) -> SplitReport:
    """Everything that is wrong with a split, and its statistics."""
    report = SplitReport()
    try:
        files = open_split(settings.data, split, report=report.findings)
    except RefineError as error:
        report.findings("cannot be opened", str(error))
        return report
    _check_ids(files, report.findings)
    report.statistics = _count(files)
    if settings.pixels:
        _check_images(files, report, settings)
    return report


def _check_ids(files: DatasetFiles, findings: Findings) -> None:
    """Ids of instance annotations are distinct: occlusion pairs refer to them."""
    if files.instances is not None:
        values, counts = np.unique(files.instances.ids, return_counts=True)
        for number in values[counts > 1].tolist():
            message = f"{files.instances.source}: annotation id {number} occurs twice; renumber it"
            findings("annotations[] 'id' occurs twice", message)
    if not len(files.annotations.segment_ids):
        message = f"{files.annotations.source}: no image has a segment; annotate some"
        findings("no segment at all", message)


def _count(files: DatasetFiles) -> dict[str, Any]:
    annotations, categories = files.annotations, files.annotations.categories
    of_category = np.bincount(annotations.segment_categories, minlength=len(categories)).tolist()
    sizes = annotations.sizes
    return {
        "images": len(annotations),
        "segments": len(annotations.segment_ids),
        "crowds": int(annotations.segment_crowds.sum()),
        "instances": None if files.instances is None else len(files.instances),
        "things": categories.num_things,
        "stuff": len(categories) - categories.num_things,
        "segments_by_category": {
            c.name: count for c, count in zip(categories.categories, of_category, strict=True)
        },
        "height_px": _summarise(sizes[:, 0]),
        "width_px": _summarise(sizes[:, 1]),
    }


def _summarise(values: np.ndarray) -> dict[str, float]:
    middle = float(np.median(values))
    return {"min": float(values.min()), "median": middle, "max": float(values.max())}


def _check_images(files: DatasetFiles, report: SplitReport, settings: CheckSettings) -> None:
    rows = [read_row(files, k) for k in range(len(files.annotations))]
    thresh = settings.data.occlusion_pairs.overlap_thresh
    with ThreadPoolExecutor(max(settings.data.num_workers, 1)) as pool:
        done = pool.map(partial(_check_image, files, thresh), rows)
        described = f"reading {files.images.label}"
        images = list(track(done, description=described, total=len(rows), transient=True))
    for image in images:
        for kind, count in image.findings.counts.items():
            for message in image.findings.examples[kind]:
                report.findings(kind, message)
            hidden = count - len(image.findings.examples[kind])
            report.findings.counts[kind] += hidden
    pixels = int(files.annotations.sizes.prod(axis=1).sum())
    report.statistics["void_share"] = sum(image.void_px for image in images) / pixels
    report.statistics["overlapping_pairs"] = sum(image.overlaps for image in images)


def _check_image(files: DatasetFiles, overlap_thresh: float, row: ImageRow) -> _ImageReport:
    report = _ImageReport()
    findings = report.findings
    try:
        row.read_image(files.images)
        if has_two_readings(files.images.read(row.image_name)):
            message = f"{files.images.label}/{row.image_name}: annotations may be of the image"
            fix = f"{message} as stored or as seen (EXIF orientation); save it upright"
            findings("an EXIF orientation that may be meant or not", fix)
    except RefineError as error:
        findings("an image that cannot be used", str(error))
    try:
        runs = row.read_runs(files.pngs, report=findings)
    except RefineError as error:
        findings("a PNG that cannot be used", str(error))
        return report
    report.void_px = int(runs.lengths[runs.places == 0].sum())
    if row.instances is not None and files.instances is not None:
        for name, is_covered in find_uncovered(row, runs):
            if not is_covered:
                source = files.instances.source
                message = f"{source}: no outline covers half of {name}; add or correct one"
                findings("a segment of a thing without an outline", message)
        crops = [original_mask(a.outline, row.size) for a in row.instances if not a.is_crowd]
        overlaps = pair_overlaps([crop for crop in crops if crop is not None])
        report.overlaps = int((overlaps.shares >= overlap_thresh).any(axis=1).sum())
    return report


def _describe(split: str, report: SplitReport) -> Iterator[str]:
    """Lines for people."""
    s = report.statistics
    if s:
        sizes = " x ".join(
            f"{s[side]['min']:.0f}-{s[side]['max']:.0f}" for side in ("width_px", "height_px")
        )
        yield (
            f"{split}: {s['images']} images of {sizes} pixels, {s['segments']} segments "
            f"({s['crowds']} crowds) of {s['things']} things and {s['stuff']} stuff, "
            f"{'no' if s['instances'] is None else s['instances']} outlines"
        )
        absent = [name for name, count in s["segments_by_category"].items() if not count]
        most = Counter(s["segments_by_category"]).most_common(5)
        yield f"  most frequent: {', '.join(f'{name} {count}' for name, count in most)}"
        if absent:
            yield f"  without a segment: {len(absent)} categories ({', '.join(absent[:5])} ...)"
    if "void_share" in s:
        yield (
            f"  void: {100 * s['void_share']:.1f} % of the pixels; "
            f"overlapping pairs of outlines: {s['overlapping_pairs']}"
        )
    for kind, count in report.findings.counts.items():
        yield f"  {count} x {kind}"
        yield from (f"      {example}" for example in report.findings.examples[kind])
    if not report.findings.counts:
        yield f"  {split}: no problem found"
