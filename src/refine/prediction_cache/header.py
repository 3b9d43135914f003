"""What a prediction cache holds, and which settings it can be fused with."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from refine import __version__
from refine.categories import CategoryTable
from refine.coco_format.annotations import PanopticAnnotations
from refine.config.flatten import flatten
from refine.options import FusionOptions
from refine.options.checks import check, check_choice, check_fractions
from refine.order.pairs import PAIR_OVERLAP_THRESH, PAIR_SCORE_THRESH

FORMAT_NAME = "refine prediction cache"
FORMAT_VERSION = 1
"""Raised whenever older files can no longer be read."""

FORMS = ("compact", "half", "full")
"""Forms of mask and semantic logits (:mod:`refine.prediction_cache.forms`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetIdentity:
    """Enough of a dataset to recognise it.

    Attributes:
        name: File name of its panoptic JSON, shown in messages but not compared: it may move.
        num_images: Images to predict.
        categories: ``id``, ``name`` and ``isthing`` in contiguous order.
        image_ids: SHA-256 of the ids, in the dataset's order.
        annotations: SHA-256 of the names and sizes of the images and of their segments.
    """

    name: str
    num_images: int
    categories: list[dict[str, Any]]
    image_ids: str
    annotations: str

    def difference(self, other: "DatasetIdentity") -> str | None:
        """How ``other`` differs from this dataset, or None."""
        if self.categories != other.categories:
            return "other categories"
        if self.image_ids != other.image_ids:
            return f"other images ({other.num_images}, not {self.num_images})"
        if self.annotations != other.annotations:
            return "the same image ids, but other images or segments"
        return None


def identify_dataset(
    annotations: PanopticAnnotations, image_ids: list[int] | None = None
) -> DatasetIdentity:
    """The identity of a split, or of only these images of it, in this order."""
    place = {image_id: k for k, image_id in enumerate(annotations.image_ids.tolist())}
    rows = [place[i] for i in image_ids] if image_ids is not None else list(place.values())
    content = hashlib.sha256()
    for row in rows:
        segments = slice(annotations.offsets[row], annotations.offsets[row + 1])
        content.update(f"{annotations.image_names[row]} {annotations.sizes[row]}".encode())
        for column in ("segment_ids", "segment_categories", "segment_areas"):
            content.update(getattr(annotations, column)[segments].tobytes())
    categories = annotations.categories.to_json()
    return DatasetIdentity(
        name=Path(annotations.source).name,
        num_images=len(rows),
        categories=[{k: v for k, v in c.items() if k != "color"} for c in categories],
        image_ids=hash_image_ids(annotations.image_ids[rows].tolist()),
        annotations=content.hexdigest(),
    )


def hash_image_ids(image_ids: list[int]) -> str:
    """SHA-256 of image ids in their order."""
    return hashlib.sha256(np.array(image_ids, dtype="<i8").tobytes()).hexdigest()


_DATASET_KINDS = {"name": str, "num_images": int, "categories": list} | dict.fromkeys(
    ("image_ids", "annotations"), str
)
_HEADER_KINDS = {"panoptic_only": bool, "checkpoint": dict, "package": str}


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheHeader:
    """Everything that the predictions of a cache depend on.

    Attributes:
        dataset: Images and categories.
        form: One of :data:`FORMS`.
        panoptic_only: Whether masks and IBPP ran only on detections that the merge can use.
        score_thresh: ``panoptic_only``: the ``merge.score_thresh`` that decided which those are;
            else the score below which the network drops detections.
        checkpoint: What made the predictions, in plain containers, such as a hash of the weights.
        occlusion_heads: Names of the occlusion heads, each kept as ``occlusion/NAME``.
        ranking_heads: Names of the ranking heads, each kept as ``ranking/NAME``.
        pair_score_thresh: Lowest score of both detections of a pair.
        pair_overlap_thresh: Lowest share of either mask of a pair that lies in the other.
        package: Version of this package.

    Raises:
        ValueError: A value out of range, or a head whose name holds a slash.
    """

    dataset: DatasetIdentity
    form: str
    panoptic_only: bool
    score_thresh: float
    checkpoint: dict[str, Any]
    occlusion_heads: tuple[str, ...] = ()
    ranking_heads: tuple[str, ...] = ()
    pair_score_thresh: float = PAIR_SCORE_THRESH
    pair_overlap_thresh: float = PAIR_OVERLAP_THRESH
    package: str = __version__

    def __post_init__(self) -> None:
        check_choice("predictions_form", self.form, FORMS)
        check_fractions(self, "score_thresh", "pair_score_thresh", "pair_overlap_thresh")
        for name in (*self.occlusion_heads, *self.ranking_heads):
            fits = isinstance(name, str) and bool(name) and "/" not in name
            check(fits, "head", name, "a name without a slash")

    def to_json(self) -> dict[str, Any]:
        """Plain containers, as JSON gives them back."""
        content = {"format": FORMAT_NAME, "version": FORMAT_VERSION, **asdict(self)}
        return dict(json.loads(json.dumps(content)))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The header that :meth:`to_json` gave.

        ``KeyError``, ``TypeError``, ``ValueError`` or a ``RefineError`` if it is none.
        """
        values = {k: v for k, v in content.items() if k not in ("format", "version")}
        dataset = values["dataset"] = DatasetIdentity(**values["dataset"])
        for key in ("occlusion_heads", "ranking_heads"):
            values[key] = tuple(values[key])
        header = cls(**values)
        for owner, kinds in ((dataset, _DATASET_KINDS), (header, _HEADER_KINDS)):
            for key, kind in kinds.items():
                if type(getattr(owner, key)) is not kind:
                    raise TypeError(f"{key} is no {kind.__name__}")
        CategoryTable.of(dataset.categories)
        return header

    @property
    def digest(self) -> str:
        """16 characters that tell this header from others."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def first_difference(self, other: "CacheHeader") -> str | None:
        """The first key, in alphabetical order, that differs, and both its values; or None."""
        ours, theirs = flatten(self.to_json()), flatten(other.to_json())
        for key in sorted(ours.keys() | theirs.keys()):
            if ours.get(key) != theirs.get(key):
                texts = [repr(values.get(key)) for values in (ours, theirs)]
                this, that = (t if len(t) <= 40 else f"{t[:37]}..." for t in texts)
                return f"{key} is {this}, not {that}"
        return None

    def obstacle(self, fusion: FusionOptions) -> str | None:
        """Why these predictions cannot stand in for the network under ``fusion``, or None."""
        if fusion.panoptic_only != self.panoptic_only:
            return f"the network ran with fusion.panoptic_only={self.panoptic_only}"
        if self.panoptic_only and fusion.merge.score_thresh != self.score_thresh:
            return (
                "with fusion.panoptic_only the network itself depends on fusion.merge.score_thresh"
                f", which was {self.score_thresh}"
            )
        kind, head = fusion.relations.kind, fusion.relations.head
        if kind == "srm":
            return _unknown_head("ranking", head, self.ranking_heads)
        if kind not in ("occlusion", "soft_occlusion"):
            return None
        for name, value, least in (
            ("merge.score_thresh", fusion.merge.score_thresh, self.pair_score_thresh),
            ("relations.overlap_thresh", fusion.relations.overlap_thresh, self.pair_overlap_thresh),
        ):
            if value < least:
                return f"pairs are there for fusion.{name} >= {least} only"
        return _unknown_head("occlusion", head, self.occlusion_heads)


def _unknown_head(kind: str, name: str, known: tuple[str, ...]) -> str | None:
    if name in known:
        return None
    return f"no {kind} head {name!r} is in it (fusion.relations.head; there is {known or 'none'})"
