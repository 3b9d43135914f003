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
import tempfile
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

import numpy as np

from refine.atomic import write_text
from refine.coco_format.json_entries import parse_json_object, read_bytes
from refine.coco_format.layout import DatasetFiles
from refine.data.pairs.occlusion_pairs import OcclusionPairs, OrderedPair
from refine.data.pairs.pair_building import build_pairs, require_instances
from refine.errors import RefineError
from refine.options import OcclusionPairsOptions

_FORMAT = "refine occlusion pairs"
_VERSION = 1  # raise it whenever the rule or the file changes

_FIX = "remove it, or set data.occlusion_pairs.folder to another folder"

_log = logging.getLogger(__name__)


def _describe_source(files: DatasetFiles, overlap_thresh: float) -> dict[str, Any]:
    """All that the pairs depend on; ``images`` tells other datasets from changed ones."""
    annotations = files.annotations
    sizes = [files.pngs.size(str(name)) for name in annotations.file_names]
    return {
        "images": _hash(annotations.image_ids),
        "panoptic_json": annotations.sha256,
        "instances_json": require_instances(files).sha256,
        "png_sizes": _hash(np.array(sizes)),
        "overlap_thresh": overlap_thresh,
        "version": _VERSION,
    }


def _hash(numbers: np.ndarray) -> str:
    return hashlib.sha256(numbers.astype("<i8").tobytes()).hexdigest()


def pairs_path(annotations: Path, split: str, options: OcclusionPairsOptions) -> Path:
    """The file with the pairs of a split, in the folder of its annotations or of the options."""
    folder = annotations if options.folder is None else Path(options.folder)
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

    What is out of date is built again. So is what is damaged or of other images in the dataset's
    own folder; in a folder that the options name it is left alone and reported. ``path`` comes from
    :func:`pairs_path`; the rest is for :func:`build_pairs`.

    Raises:
        RefineError: There are no instances; the file is no pairs file or one of another dataset, in
            a folder that was named; the folder cannot be written; or the dataset is damaged.
    """
    source = _describe_source(files, options.overlap_thresh)
    stored = _read_current(path, source, is_named=options.folder is not None)
    if stored is not None:
        return stored
    try:  # before the work, not after it
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _not_writable(path.parent, error) from None
    _log.info("looking for occlusion pairs in %s", files.annotations.source)
    pairs = build_pairs(
        files,
        overlap_thresh=options.overlap_thresh,
        num_processes=num_processes,
        progress=progress,
    )
    _write_pairs(path, pairs, source)
    _log.info("wrote %d pairs to %s", len(pairs), path)
    return pairs


def _write_pairs(path: Path, pairs: OcclusionPairs, source: dict[str, Any]) -> None:
    images: dict[int, list[list[int]]] = {}
    for image_id, triple in zip(pairs.image_ids.tolist(), pairs.triples.tolist(), strict=True):
        images.setdefault(image_id, []).append(triple)
    try:
        write_text(path, json.dumps({"format": _FORMAT, "source": source, "pairs": images}))
    except OSError as error:
        raise _not_writable(path.parent, error) from None


def _read_current(path: Path, wanted: dict[str, Any], *, is_named: bool) -> OcclusionPairs | None:
    """The pairs on disk, or None if they have to be built."""
    if not path.exists():
        return None
    try:
        document = parse_json_object(read_bytes(path), source=str(path))
        try:
            pairs, found = _parse_document(document, wanted.keys()), document["source"]
        except (AttributeError, KeyError, TypeError, ValueError):
            raise RefineError(
                f"{path}: no occlusion pairs of this version, or damaged; {_FIX}"
            ) from None
        if found["images"] != wanted["images"]:
            raise RefineError(f"{path}: the pairs of a dataset with other images; {_FIX}")
    except RefineError as error:
        if is_named:
            raise
        _log.warning("%s; building it again", error)
        return None
    changed = ", ".join(name for name, value in wanted.items() if found[name] != value)
    if changed:
        _log.warning("%s: out of date (%s changed); building it again", path, changed)
    return None if changed else pairs


def _parse_document(document: dict[str, Any], source_keys: Set[str]) -> OcclusionPairs:
    """The pairs in a file's JSON; raises any of four errors if it is something else."""
    source = document["source"]
    known = document["format"] == _FORMAT and source["version"] == _VERSION
    if not known or source.keys() != source_keys:
        raise ValueError
    images = {
        int(image_id): [OrderedPair(*triple) for triple in triples]
        for image_id, triples in document["pairs"].items()
    }
    for pair in (pair for pairs in images.values() for pair in pairs):
        if set(map(type, pair)) != {int} or pair.top not in pair[:2]:
            raise ValueError
    return OcclusionPairs.from_images(images)


def _not_writable(folder: Path, error: OSError) -> RefineError:
    return RefineError(
        f"{folder}: cannot be written ({error.strerror}); set data.occlusion_pairs.folder to a "
        "folder for the occlusion pairs"
    )
