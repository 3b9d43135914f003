"""A dataset, its image sizes and how it is fed."""

from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

from refine.options.checks import (
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    Options,
    Range,
    between,
    knob,
    one_of,
)

_FIVE = Range(lambda s: len(s) == 5 and min(s) > 0, "five sizes, P2 to P6, above 0")
_RATIOS = Range(lambda ratios: 0 < min(ratios, default=0) <= max(ratios) < inf, "ratios above 0")
_SHORTEST, _LONGEST = 32, 16384  # sides of an image that the network sees, in pixels
_SIDE = between(1, _LONGEST)
_SIDES = Range(lambda sides: bool(sides) and all(map(_SIDE.holds, sides)), f"{_SIDE.expected} each")
_SCALES = Range(
    lambda scales: bool(scales) and all(0 < scale <= 8 for scale in scales),
    "one or more numbers above 0, up to 8",
)
_SIZE = Range(
    lambda crop: len(crop) == 2 and all(map(_SIDE.holds, crop)),
    f"null or [height, width], {_SIDE.expected} each",
)
_UNIONS = Range(
    lambda new: (
        isinstance(new, dict) and bool(new) and all(isinstance(v, list) and v for v in new.values())
    ),
    "{new: [old, ...], ...} or null",
)


@dataclass(kw_only=True)
class AnchorOptions(Options, section="data.anchors"):
    """RPN anchors; they belong to the data because they follow its image size.

    Attributes:
        sizes_px: Side length at each level, P2 to P6.
        aspect_ratios: Heights over widths.
    """

    sizes_px: list[int] = knob([32, 64, 128, 256, 512], _FIVE)
    aspect_ratios: list[float] = knob([0.5, 1.0, 2.0], _RATIOS)


@dataclass(kw_only=True)
class ImageOptions(Options, section="data.image"):
    """Size and augmentation.

    Attributes:
        train_short_sides_px: Short sides in training; one is drawn at random for each image.
        eval_short_side_px: Short side in evaluation and prediction.
        max_long_side_px: Maximum long side; the short side shrinks to keep it.
        eval_max_long_side_px: Maximum long side in evaluation and prediction; None: the same.
        flip_prob: Probability of a horizontal flip in training.
        crop_px: ``[height, width]`` of a random crop after the resize in training, or None.
        eval_flip: Whether evaluation and prediction also see every image mirrored left and right,
            and average (test-time augmentation).
        eval_scales: Sizes at which they see it, as factors on their sides; several are averaged.
        resize: Kernel that resizes images: ``torch``, or ``pillow`` as detectron2 does; they differ
            by one grey level in some pixels, and ``pillow`` takes eight times as long.
    """

    train_short_sides_px: list[int] = knob([640, 672, 704, 736, 768, 800], _SIDES)
    eval_short_side_px: int = knob(800, _SIDE)
    max_long_side_px: int = knob(1333, _SIDE)
    eval_max_long_side_px: int | None = knob(None, _SIDE)
    flip_prob: float = knob(0.5, FRACTION)
    crop_px: list[int] | None = knob(None, _SIZE)
    resize: str = knob("torch", one_of(("torch", "pillow")))
    eval_flip: bool = knob(False, rare=True)
    eval_scales: list[float] = knob([1.0], _SCALES, rare=True)

    @property
    def has_views(self) -> bool:
        """Whether predictions are made of more than the image at its size."""
        return self.eval_flip or self.eval_scales != [1.0]

    def require_visible(self) -> None:
        """Refuse, as a ``ValueError``, sizes at which a network sees nothing."""
        short, crop = self.train_short_sides_px, self.crop_px or [_SHORTEST]
        sizes = {"train_short_sides_px": min(short), "crop_px": min(crop)}
        for name in ("eval_short_side_px", "max_long_side_px"):
            sizes[name] = getattr(self, name)
        for name, size in sizes.items():
            self.require(size >= _SHORTEST, name, f"{_SHORTEST} pixels or more")


@dataclass(kw_only=True)
class ToyOptions(Options, section="data.toy"):
    """The generated toy dataset (see :mod:`refine.toy.dataset`).

    Attributes:
        seed: Seed; scenes are a function of (seed, split, index).
        num_train: Number of training scenes.
        num_val: Number of validation scenes.
        height_px: Height of a scene.
        width_px: Width of a scene.
        crowded: Whether scenes have more things, which hide more of each other.
        version: 1 or 2: which scenes (:mod:`refine.toy.scene`); settings of before have no version.
        masks: What instances are annotated with: ``full`` (hidden parts, too; overlaps can be
            ordered) or ``visible`` (as most of COCO's).
        hues: Hues of things: ``default`` (version 1: those of their categories; version 2: any) or
            ``category`` (of their categories, so that networks learn them in minutes).
    """

    seed: int = knob(0, NOT_NEGATIVE)
    num_train: int = knob(400, POSITIVE)
    num_val: int = knob(100, POSITIVE)
    height_px: int = knob(128, between(1, 4096))
    width_px: int = knob(192, between(1, 4096))
    crowded: bool = False
    version: int = knob(1, Range(lambda version: version in (1, 2), "1 or 2"))
    masks: str = knob("full", one_of(("full", "visible")))
    hues: str = knob("default", one_of(("default", "category")))


@dataclass(kw_only=True)
class OcclusionPairsOptions(Options, section="data.occlusion_pairs"):
    """Which instance lies on top of which, from the annotations, to train occlusion heads on.

    Attributes:
        overlap_thresh: Least share of either outline inside the other for a pair to count (rho).
        folder: Folder of ``occlusion_pairs_{split}.json``; None is ``ROOT/annotations``.
    """

    overlap_thresh: float = knob(0.2, FRACTION)
    folder: str | None = None


@dataclass(kw_only=True)
class CategoryOptions(Options, section="data.categories"):
    """Which categories of the dataset are used: those named here; all others become void.

    Attributes:
        keep: Names of categories to keep; None: all, or with ``merge`` no others.
        merge: Names of new categories, each with those of the dataset that it unites: all things
            (instances stay apart), or all stuff (one segment an image).
        by: ``category``; or ``supercategory``, of which each is then one category.
    """

    keep: list[str] | None = knob(None, Range(lambda names: len(names) > 0, "names, or null"))
    # dict[str, list[str]] | None, which OmegaConf could not set: it cannot merge a dict into None
    merge: Any = knob(None, _UNIONS)
    by: str = knob("category", one_of(("category", "supercategory")))


@dataclass(kw_only=True)
class SplitOptions(Options, section="data.train"):
    """Where the parts of a split lie; those that are None lie in COCO's layout below the root.

    Attributes:
        images: Folder or zip of the images.
        masks: Folder or zip of the panoptic PNGs; None with ``annotations``: called as these are.
        annotations: Panoptic JSON.
        instances: Instances JSON; None with ``annotations``: there is none.
    """

    images: str | None = None
    masks: str | None = None
    annotations: str | None = None
    instances: str | None = None


@dataclass(kw_only=True)
class DataOptions(Options, section="data"):
    """A COCO-panoptic dataset and how it is fed; sections have their own classes.

    Attributes:
        root: Folder that holds the images and ``annotations/`` (or the official zips).
        train_split: Name of the training split, as in ``annotations/panoptic_{split}.json``.
        val_split: Name of the evaluation split.
        train_image_ids: Ids of the images to train on; None is all.
        val_image_ids: Ids of the images to evaluate; None is all.
        train: Where the training split lies, if not in COCO's layout.
        val: Where the evaluation split lies, if not in COCO's layout.
        categories: Which of the dataset's categories are used.
        batch_size: Images per training step, over all devices together.
        num_workers: Loader processes per device; 0 loads in the main process.
        cache_dir: Folder of compressed inner zips, spooled once; None is ``ROOT/.refine_cache``.
        stuff_area_limit_px: Least area of a stuff segment in original pixels; others become void.
        toy: Dataset generated into ``root`` if it is not there (``data=toy``), or None.
    """

    root: str = "data/coco"
    train_split: str = "train2017"
    val_split: str = "val2017"
    train_image_ids: list[int] | None = None
    val_image_ids: list[int] | None = None
    train: SplitOptions = knob(SplitOptions(), rare=True)
    val: SplitOptions = knob(SplitOptions(), rare=True)
    categories: CategoryOptions = field(default_factory=CategoryOptions)
    batch_size: int = knob(16, between(1, 65536))
    num_workers: int = knob(4, between(0, 1024))
    cache_dir: str | None = None
    image: ImageOptions = field(default_factory=ImageOptions)
    anchors: AnchorOptions = field(default_factory=AnchorOptions)
    stuff_area_limit_px: int = knob(4096, NOT_NEGATIVE)
    occlusion_pairs: OcclusionPairsOptions = field(default_factory=OcclusionPairsOptions)
    toy: ToyOptions | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        is_clear = self.train_split != self.val_split or self.train == self.val
        expected = "another name than data.train_split has, because their files differ"
        self.require(is_clear, "val_split", expected)

    def moved_to(self, root: Path) -> "DataOptions":
        """The same with all files in COCO's layout below another root."""
        return replace(self, root=str(root), train=SplitOptions(), val=SplitOptions())

    def parts(self, split: str) -> SplitOptions:
        """Where the parts of a split of this name lie."""
        known = {self.train_split: self.train, self.val_split: self.val}
        return known.get(split, SplitOptions())
