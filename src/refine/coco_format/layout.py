"""Where the parts of a COCO-panoptic dataset lie below its root: unpacked, or in the zips.

========================  ==============================================================
part                      looked for, in this order
========================  ==============================================================
images                    ``{split}/``, ``{split}.zip``
annotations               ``annotations/panoptic_{split}.json``, or under that name in
                          ``panoptic_annotations_trainval2017.zip``
panoptic PNGs             folder or zip ``panoptic_{split}`` in ``annotations/`` or in the
                          root, or the zip ``annotations/panoptic_{split}.zip`` inside
                          ``panoptic_annotations_trainval2017.zip``
instances (optional)      ``annotations/instances_{split}.json``, or under that name in
                          ``annotations_trainval2017.zip``
========================  ==============================================================

The outer zips may lie in the root or in ``annotations/``.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from refine.coco_format.annotations import PanopticAnnotations, parse_panoptic_json
from refine.coco_format.category_choice import choose_categories
from refine.coco_format.instances import InstanceAnnotations, parse_instances_json
from refine.coco_format.json_entries import read_bytes
from refine.coco_format.outline_checks import find_misfits
from refine.coco_format.storage import Storage, open_inner_zip, open_storage
from refine.errors import RefineError, Report, refuse
from refine.options import CategoryOptions

_log = logging.getLogger(__name__)

PANOPTIC_ZIP = "panoptic_annotations_trainval2017.zip"
INSTANCES_ZIP = "annotations_trainval2017.zip"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DatasetFiles:
    """One split of a dataset; cheap to hand to loader processes.

    Attributes:
        annotations: Panoptic annotations.
        images: Image files, by ``annotations.image_names``.
        pngs: Panoptic PNGs, by ``annotations.file_names``.
        instances: Full outlines, if there are any.
    """

    annotations: PanopticAnnotations
    images: Storage
    pngs: Storage
    instances: InstanceAnnotations | None

    def choose(self, options: CategoryOptions) -> "DatasetFiles":
        """The split with some of its categories; a RefineError if a name does not fit."""
        old, source = self.annotations.categories, self.annotations.source
        choice = choose_categories(old, options, source=source)
        if choice is None:
            return self
        _log.info("%s: %s", source, choice.describe(old))
        instances = None if self.instances is None else self.instances.choose(choice)
        return replace(self, annotations=self.annotations.choose(choice), instances=instances)


def open_dataset(
    root: Path, split: str, *, cache_dir: Path | None = None, report: Report = refuse
) -> DatasetFiles:
    """Find and open all parts of a split.

    ``split`` is its name in the file names (``val2017``). A compressed inner zip is unpacked in
    ``cache_dir``, or in ``root/.refine_cache``. If ``report`` returns, malformed parts of the
    annotations are left out.

    Raises:
        RefineError: The root or a part is missing, or a file is damaged.
    """
    if not root.is_dir():
        raise RefineError(
            f"{root}: no such dataset folder; put COCO-panoptic data there (see README.md), "
            "set data.root to where it is, or try data=toy"
        )
    name = f"panoptic_{split}.json"
    panoptic = _read_annotation_file(root, name, PANOPTIC_ZIP)
    if panoptic is None:
        raise _missing_part(root, f"annotations/{name}", PANOPTIC_ZIP)
    annotations = parse_panoptic_json(panoptic[0], source=panoptic[1], report=report)
    found = [path for path in (root / split, root / f"{split}.zip") if path.exists()]
    if not found:
        raise _missing_part(root, f"{split}/", f"{split}.zip")
    images = open_storage(found[0], prefix=f"{split}/")
    pngs = _open_pngs(root, split, cache_dir or root / ".refine_cache")
    instances = None
    outlines = _read_annotation_file(root, f"instances_{split}.json", INSTANCES_ZIP)
    if outlines is not None:
        data, source = outlines
        instances = parse_instances_json(data, annotations, source=source, report=report)
        for misfits in find_misfits(annotations, instances):
            misfits.judge(source, report)
    return DatasetFiles(annotations=annotations, images=images, pngs=pngs, instances=instances)


def _read_annotation_file(root: Path, name: str, zip_name: str) -> tuple[bytes, str] | None:
    """Content and label of ``annotations/NAME`` in the root or in a zip."""
    path = root / "annotations" / name
    if path.is_file():
        return read_bytes(path), str(path)
    for outer in (root / zip_name, root / "annotations" / zip_name):
        if outer.is_file():
            archive = open_storage(outer)
            if f"annotations/{name}" in archive:
                return archive.read(f"annotations/{name}"), f"{outer}/annotations/{name}"
    return None


def _open_pngs(root: Path, split: str, cache_dir: Path) -> Storage:
    name = f"panoptic_{split}"
    folders = (root / "annotations", root)
    for path in (folder / (name + suffix) for suffix in ("", ".zip") for folder in folders):
        if path.exists():
            return open_storage(path, prefix=f"{name}/")
    for outer in (folder / PANOPTIC_ZIP for folder in folders):
        if outer.is_file():
            entry = f"annotations/{name}.zip"
            pngs = open_inner_zip(outer, entry, prefix=f"{name}/", cache_dir=cache_dir)
            if pngs is not None:
                return pngs
    raise _missing_part(root, f"annotations/{name}/", PANOPTIC_ZIP)


def _missing_part(root: Path, name: str, zip_name: str) -> RefineError:
    return RefineError(
        f"{root}: neither {name} nor {zip_name} is there; download the split or correct data.root"
    )
