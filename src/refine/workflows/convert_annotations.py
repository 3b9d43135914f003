"""Write the annotations of another layout as a split of a COCO-panoptic dataset."""

import os
import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from rich.progress import track

from refine.atomic import write_atomically
from refine.categories import CategoryTable
from refine.coco_format.storage import FolderStorage, Storage, open_storage
from refine.coco_format.writer import PanopticWriter
from refine.config.settings import ConvertDatasetSettings
from refine.data.images import check_photo
from refine.errors import Findings, RefineError
from refine.layouts.annotated_images import AnnotatedImage, Layout
from refine.layouts.category_file import load_categories
from refine.layouts.cityscapes import Cityscapes
from refine.layouts.coco_parts import CocoParts
from refine.layouts.instances_writer import InstancesWriter
from refine.layouts.label_maps import LabelMaps
from refine.layouts.labelme import LabelMe
from refine.layouts.panoptic_form import PanopticForm
from refine.runs.console import say
from refine.runs.folder_lock import lock_folder
from refine.types import GroundTruth

_T = TypeVar("_T")


@dataclass(slots=True)
class _Counts:
    """What has been converted."""

    images: int = 0
    pixels: int = 0
    void_px: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)

    def add(self, image: AnnotatedImage) -> None:
        self.images += 1
        self.pixels += image.segment_map.size
        self.void_px += image.segment_map.size - sum(s.area for s in image.segments)
        for segment in image.segments:
            kind = "crowds" if segment.is_crowd else "things" if segment.is_thing else "stuff"
            self.kinds[kind] += 1
        self.notes += image.notes


def convert_dataset(settings: ConvertDatasetSettings) -> int:
    """Write a split, print what is in it; returns 0.

    Images that cannot be read are listed. Without ``skip_bad`` no JSON is written then.

    Raises:
        RefineError: The layout cannot be read, the split is there already, or images are bad.
    """
    annotations = Path(settings.out) / "annotations"
    if (annotations / f"panoptic_{settings.split}.json").exists():
        raise RefineError(
            f"{annotations}/panoptic_{settings.split}.json: is there already; remove it, or choose "
            "another out= or split="
        )
    layout = open_layout(settings)
    with lock_folder(Path(settings.out), key="out"):
        try:
            return _convert(layout, settings, annotations)
        except OSError as error:
            reason = f"{error.filename or settings.out}: {error.strerror or error}"
            raise RefineError(f"{reason}; make room or choose another out=FOLDER") from None


def open_layout(s: ConvertDatasetSettings) -> Layout:
    """The dataset that is converted; a RefineError if something of it is missing or malformed."""
    images = open_storage(Path(s.images))
    table = load_categories(Path(s.table)) if s.table else None
    return _OPENERS[s.layout or ""](s, images, table)


def _open_coco(s: ConvertDatasetSettings, images: Storage, table: CategoryTable | None) -> Layout:
    return CocoParts(
        Path(_given(s.instances)),
        Path(_given(s.semantic)),
        images,
        categories=table,
        overlaps=s.overlaps,
        void=_category_ids(s.void),
    )


def _open_labelme(
    s: ConvertDatasetSettings, images: Storage, table: CategoryTable | None
) -> Layout:
    return LabelMe(
        open_storage(Path(_given(s.annotations))),
        images,
        categories=_given(table),
        overlaps=s.overlaps,
        void=[str(label) for label in s.void],
    )


def _open_label_maps(
    s: ConvertDatasetSettings, images: Storage, table: CategoryTable | None
) -> Layout:
    return LabelMaps(
        open_storage(Path(s.annotations or _given(s.semantic))),
        open_storage(Path(s.instances)) if s.instances else None,
        images,
        categories=_given(table),
        void=_category_ids(s.void),
    )


def _open_panoptic(
    s: ConvertDatasetSettings, images: Storage, table: CategoryTable | None
) -> Layout:
    pngs = open_storage(Path(_given(s.pngs)))
    return PanopticForm(Path(_given(s.annotations)), pngs, images, categories=table)


def _open_cityscapes(
    s: ConvertDatasetSettings, images: Storage, _table: CategoryTable | None
) -> Layout:
    return Cityscapes(open_storage(Path(_given(s.annotations))), images)


_OPENERS = {  # conf/from names them
    "coco": _open_coco,
    "labelme": _open_labelme,
    "label_maps": _open_label_maps,
    "panoptic": _open_panoptic,
    "cityscapes": _open_cityscapes,
}


def _given(value: _T | None) -> _T:
    """A setting that the layout's YAML file demands."""
    if value is None:
        raise RefineError("from: a setting of this layout is null; give a value")
    return value


def _category_ids(void: list[Any]) -> list[int]:
    for value in void:
        if type(value) is not int:
            raise RefineError(f"void: {value!r} is no category id; give numbers, [0, 255] for one")
    return void


def _convert(layout: Layout, settings: ConvertDatasetSettings, annotations: Path) -> int:
    split, counts, findings = settings.split, _Counts(), Findings()
    outlines = InstancesWriter(layout.categories) if layout.has_outlines else None
    with PanopticWriter(annotations, layout.categories, split=split) as writer:
        for k in track(range(len(layout)), f"converting to {split}", transient=True):
            try:
                image = layout.read(k)
                _write_photo(layout.images, image, settings)
                _write_annotations(image, writer, outlines)
            except RefineError as error:
                findings("an image that cannot be converted", str(error))
                continue
            counts.add(image)
        _judge(findings, counts, skip_bad=settings.skip_bad)
        if outlines is not None:
            outlines.write(annotations / f"instances_{split}.json")
    for line in _describe(layout, counts, outlines, settings):
        say(line)
    return 0


def _write_annotations(
    image: AnnotatedImage, writer: PanopticWriter, outlines: InstancesWriter | None
) -> None:
    truth = GroundTruth(segment_map=image.segment_map, segments=image.segments)
    png_name = str(PurePosixPath(image.image_name).with_suffix(".png"))
    writer.add(image.image_id, image.image_name, truth, png_name=png_name)
    if outlines is not None and image.outlines is not None:
        height, width = image.segment_map.shape
        outlines.add(image.image_id, image.image_name, (height, width), image.outlines)


def _write_photo(images: Storage, image: AnnotatedImage, settings: ConvertDatasetSettings) -> None:
    """Check that a photo fits its annotations, and link or copy it."""
    name, data = image.image_name, images.read(image.image_name)
    height, width = image.segment_map.shape
    check_photo(data, source=f"{images.label}/{name}", size=(height, width))
    target = Path(settings.out) / settings.split / name
    source = images.folder / name if isinstance(images, FolderStorage) else None
    if target.exists():
        if (source is not None and target.samefile(source)) or target.read_bytes() == data:
            return
        raise RefineError(f"{target}: another photo is there already; remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    if settings.link and source is not None:
        try:
            os.link(source.resolve(), target)
            return
        except OSError:  # another disk, or a file system without links
            pass
    with write_atomically(target) as part:
        part.write_bytes(data)


def _judge(findings: Findings, counts: _Counts, *, skip_bad: bool) -> None:
    """List the images that were not converted; a RefineError unless they may be skipped."""
    for kind, number in findings.counts.items():
        say(f"{number} x {kind}")
        for example in findings.examples[kind]:
            say(f"    {example}")
    if not counts.images:
        raise RefineError("no image could be converted; the first ones are listed above")
    if findings.counts and not skip_bad:
        raise RefineError(
            f"{sum(findings.counts.values())} images cannot be converted; mend them, or leave them "
            "out with skip_bad=true"
        )


def _describe(
    layout: Layout,
    counts: _Counts,
    outlines: InstancesWriter | None,
    settings: ConvertDatasetSettings,
) -> Iterable[str]:
    """Lines for people."""
    kinds, split = counts.kinds, settings.split
    things = layout.categories.num_things
    yield (
        f"{split}: {counts.images} images; {kinds['things']} segments of things and "
        f"{kinds['crowds']} crowds ({things} categories), {kinds['stuff']} of stuff "
        f"({len(layout.categories) - things}), "
        f"{'no' if outlines is None else len(outlines)} full outlines"
    )
    yield f"  void: {100 * counts.void_px / max(counts.pixels, 1):.1f} % of the pixels"
    for note, number in counts.notes.items():
        if number:
            yield f"  {note}: {number}"
    given = ["data=custom_panoptic", f"data.root={settings.out}", f"splits=[{split}]"]
    yield f"  next: python -m refine.check {shlex.join(given)}"
