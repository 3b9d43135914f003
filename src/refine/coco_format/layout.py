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

The outer zips may lie in the root or in ``annotations/``. Any part may lie elsewhere, where
``data.train`` or ``data.val`` says.
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
from refine.options import CategoryOptions, DataOptions, SplitOptions

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


def open_split(options: DataOptions, split: str, *, report: Report = refuse) -> DatasetFiles:
    """A split of the options' dataset, or of another name; see :func:`open_dataset`."""
    return open_dataset(
        Path(options.root),
        split,
        given=options.parts(split),
        cache_dir=Path(options.cache_dir) if options.cache_dir else None,
        report=report,
    )


def annotations_folder(options: DataOptions, split: str) -> Path:
    """The folder of a split's annotations."""
    given = options.parts(split).annotations
    return Path(options.root, "annotations") if given is None else Path(given).parent


def open_dataset(
    root: Path,
    split: str,
    *,
    given: SplitOptions | None = None,
    cache_dir: Path | None = None,
    report: Report = refuse,
) -> DatasetFiles:
    """Find and open all parts of a split.

    ``split`` is its name in the file names (``val2017``), and ``given`` are parts that lie
    elsewhere. A compressed inner zip is unpacked in ``cache_dir``, or in ``root/.refine_cache``. If
    ``report`` returns, malformed parts of the annotations are left out.

    Raises:
        RefineError: The root or a part is missing, or a file is damaged.
    """
    given = given or SplitOptions()
    is_elsewhere = given.images is not None and given.annotations is not None
    if not root.is_dir() and not is_elsewhere:
        raise RefineError(
            f"{root}: no such dataset folder; put COCO-panoptic data there (docs/commands.md), "
            "set data.root to where it is, or try data=toy"
        )
    data, source = _read_panoptic(root, split, given)
    annotations = parse_panoptic_json(data, source=source, report=report)
    images = _open_images(root, split, given)
    pngs = _open_given_pngs(given) or _open_pngs(root, split, cache_dir or root / ".refine_cache")
    instances = None
    outlines = _read_outlines(root, split, given)
    if outlines is not None:
        data, source = outlines
        instances = parse_instances_json(data, annotations, source=source, report=report)
        for misfits in find_misfits(annotations, instances):
            misfits.judge(source, report)
    return DatasetFiles(annotations=annotations, images=images, pngs=pngs, instances=instances)


def _read_panoptic(root: Path, split: str, given: SplitOptions) -> tuple[bytes, str]:
    if given.annotations is not None:
        return read_bytes(Path(given.annotations)), given.annotations
    name = f"panoptic_{split}.json"
    found = _read_annotation_file(root, name, PANOPTIC_ZIP)
    if found is None:
        raise _missing_part(root, f"annotations/{name}", PANOPTIC_ZIP)
    return found


def _read_outlines(root: Path, split: str, given: SplitOptions) -> tuple[bytes, str] | None:
    if given.instances is not None:
        return read_bytes(Path(given.instances)), given.instances
    if given.annotations is not None:
        return None  # those below the root are of other annotations
    return _read_annotation_file(root, f"instances_{split}.json", INSTANCES_ZIP)


def _open_images(root: Path, split: str, given: SplitOptions) -> Storage:
    if given.images is not None:
        return _open_part(Path(given.images))
    found = [path for path in (root / split, root / f"{split}.zip") if path.exists()]
    if not found:
        raise _missing_part(root, f"{split}/", f"{split}.zip")
    return open_storage(found[0], prefix=f"{split}/")


def _open_given_pngs(given: SplitOptions) -> Storage | None:
    """The PNGs that are given, or called as the given JSON is."""
    if given.masks is not None:
        return _open_part(Path(given.masks))
    if given.annotations is None:
        return None
    folder = Path(given.annotations).with_suffix("")
    return _open_part(folder if folder.is_dir() else folder.with_suffix(".zip"))


def _open_part(path: Path) -> Storage:
    return open_storage(path, prefix=f"{path.stem}/")


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
