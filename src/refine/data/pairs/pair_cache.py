"""The occlusion pairs of a split on disk: found once, and again whenever their source changes.

``occlusion_pairs_{split}.json`` holds what the pairs were made from beside them: the SHA-256 of
both annotation files, the overlap threshold, and the sizes in bytes of all panoptic PNGs (one look
at each file's entry in its folder or zip). The PNGs' content is not hashed: reading COCO's 118,287
would take minutes at the start of every training. So a PNG that is repainted to the very same
number of bytes, with the same segments in the JSON, goes unnoticed; remove the file then.
"""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refine.coco_format.json_entries import parse_json_object, read_bytes
from refine.coco_format.layout import DatasetFiles
from refine.data.pairs.occlusion_pairs import OcclusionPairs, OrderedPair
from refine.data.pairs.pair_building import build_pairs, require_instances
from refine.errors import RefineError
from refine.options import OcclusionPairsOptions

_FORMAT = "refine occlusion pairs"
_VERSION = 1  # raise it whenever the rule or the file changes

_MEND = "remove it, or set data.occlusion_pairs.folder to another folder"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsSource:
    """All that the pairs of a split are a function of.

    Attributes:
        images: SHA-256 of the image ids, to tell other datasets from changed ones.
        panoptic_json: SHA-256 of the file.
        instances_json: SHA-256 of the file.
        png_sizes: SHA-256 of the PNGs' sizes in bytes.
        overlap_thresh: A share in [0, 1] (rho).
        version: Of the rule and of the file.
    """

    images: str
    panoptic_json: str
    instances_json: str
    png_sizes: str
    overlap_thresh: float
    version: int = _VERSION


def describe_source(files: DatasetFiles, overlap_thresh: float) -> PairsSource:
    """What the pairs of a split would be made from now.

    Raises:
        RefineError: There are no instances, or a PNG is missing.
    """
    annotations = files.annotations
    sizes = [files.pngs.size(str(name)) for name in annotations.file_names]
    return PairsSource(
        images=_hash(annotations.image_ids),
        panoptic_json=annotations.sha256,
        instances_json=require_instances(files).sha256,
        png_sizes=_hash(np.array(sizes, np.int64)),
        overlap_thresh=overlap_thresh,
    )


def _hash(numbers: np.ndarray) -> str:
    return hashlib.sha256(numbers.astype("<i8").tobytes()).hexdigest()


def pairs_path(root: Path, split: str, options: OcclusionPairsOptions) -> Path:
    """Where the pairs of a split are kept.

    Args:
        root: The dataset's folder.
        split: As in the names of its files.
        options: With the folder, if it is another one.
    """
    folder = root / "annotations" if options.folder is None else Path(options.folder)
    return folder / f"occlusion_pairs_{split}.json"


def ensure_pairs(
    files: DatasetFiles,
    path: Path,
    options: OcclusionPairsOptions,
    *,
    num_processes: int = 1,
    progress: Callable[[int], None] | None = None,
) -> OcclusionPairs:
    """The pairs of a split: read, or built and written if there are none that are up to date.

    What is out of date is built anew. So is what is damaged or of other images in the dataset's own
    folder; in a folder that the options name it is left alone, and said to be there.

    Args:
        files: The split.
        path: Of the pairs (:func:`pairs_path`).
        options: Threshold, and whether the folder was named.
        num_processes: To build them, at most.
        progress: Called with the number of images that have been done since its last call.

    Raises:
        RefineError: There are no instances; the file named is no pairs file or one of another
            dataset; the folder cannot be written; or the dataset is damaged.
    """
    source = describe_source(files, options.overlap_thresh)
    stored = _read_current(path, source, is_named=options.folder is not None)
    if stored is not None:
        return stored
    _require_writable(path.parent)
    _log.info("looking for occlusion pairs in %s", files.annotations.source)
    pairs = build_pairs(
        files,
        overlap_thresh=options.overlap_thresh,
        num_processes=num_processes,
        progress=progress,
    )
    write_pairs(path, pairs, source)
    _log.info("wrote %d pairs to %s", len(pairs), path)
    return pairs


def read_pairs(path: Path) -> tuple[PairsSource, OcclusionPairs]:
    """The pairs in a file, and what they were made from.

    Raises:
        RefineError: It cannot be read, holds something else, is damaged, or of another version.
    """
    document = parse_json_object(read_bytes(path), source=str(path))
    try:
        if document["format"] != _FORMAT or document["source"]["version"] != _VERSION:
            raise ValueError
        source = PairsSource(**document["source"])
        pairs = {int(image_id): _parse(triples) for image_id, triples in document["pairs"].items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise RefineError(
            f"{path}: no occlusion pairs of this version, or damaged; {_MEND}"
        ) from None
    return source, OcclusionPairs.from_images(pairs)


def _parse(triples: list[Any]) -> list[OrderedPair]:
    pairs = [OrderedPair(*triple) for triple in triples]
    for pair in pairs:
        if set(map(type, pair)) != {int} or pair.top not in pair[:2]:
            raise ValueError
    return pairs


def write_pairs(path: Path, pairs: OcclusionPairs, source: PairsSource) -> None:
    """Write a pairs file, whole or not at all.

    Raises:
        RefineError: It cannot be written.
    """
    images: dict[int, list[list[int]]] = {}
    for image_id, triple in zip(pairs.image_ids.tolist(), pairs.triples.tolist(), strict=True):
        images.setdefault(image_id, []).append(triple)
    document = {"format": _FORMAT, "source": asdict(source), "pairs": images}
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(json.dumps(document), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise _not_writable(path.parent, error) from None
    finally:
        with suppress(OSError):
            part.unlink()


def _read_current(path: Path, wanted: PairsSource, *, is_named: bool) -> OcclusionPairs | None:
    """The pairs on disk, or None if they have to be built."""
    if not path.exists():
        return None
    try:
        found, pairs = read_pairs(path)
        if found.images != wanted.images:
            raise RefineError(f"{path}: the pairs of a dataset with other images; {_MEND}")
    except RefineError as error:
        if is_named:
            raise
        _log.warning("%s; building it anew", error)
        return None
    if found == wanted:
        return pairs
    values = asdict(wanted).items()
    changed = ", ".join(name for name, value in values if getattr(found, name) != value)
    _log.warning("%s: out of date (%s changed); building it anew", path, changed)
    return None


def _require_writable(folder: Path) -> None:
    """Before the work, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _not_writable(folder, error) from None


def _not_writable(folder: Path, error: OSError) -> RefineError:
    return RefineError(
        f"{folder}: cannot be written ({error.strerror}); set data.occlusion_pairs.folder to a "
        "folder for the occlusion pairs"
    )
