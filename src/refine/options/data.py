"""A dataset, its image sizes and how it is fed."""

from dataclasses import dataclass, field

from refine.options.checks import check, check_fractions, check_positive


@dataclass(kw_only=True)
class AnchorOptions:
    """RPN anchors; they belong to the data because they follow its image size.

    Attributes:
        sizes_px: One side length a level, P2 to P6.
        aspect_ratios: Height over width.
    """

    sizes_px: list[int] = field(default_factory=lambda: [32, 64, 128, 256, 512])
    aspect_ratios: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0])

    def __post_init__(self) -> None:
        check(len(self.sizes_px) == 5, "anchors.sizes_px", self.sizes_px, "five sizes, P2 to P6")


@dataclass(kw_only=True)
class ImageOptions:
    """Size and augmentation.

    Attributes:
        train_short_sides_px: Short side in training, drawn at random from this list.
        eval_short_side_px: Short side in evaluation and prediction.
        max_long_side_px: Upper limit of the long side; the short side shrinks to keep it.
        eval_max_long_side_px: The same in evaluation and prediction, or None for the same value.
        flip_prob: Probability of a horizontal flip in training.
        crop_px: ``[height, width]`` of a random crop after the resize in training, or None.
    """

    train_short_sides_px: list[int] = field(default_factory=lambda: [640, 672, 704, 736, 768, 800])
    eval_short_side_px: int = 800
    max_long_side_px: int = 1333
    eval_max_long_side_px: int | None = None
    flip_prob: float = 0.5
    crop_px: list[int] | None = None

    def __post_init__(self) -> None:
        check_fractions(self, "flip_prob")
        check_positive(self, "eval_short_side_px", "max_long_side_px")
        sides = self.train_short_sides_px
        check(bool(sides) and min(sides) > 0, "train_short_sides_px", sides, "positive lengths")
        crop = self.crop_px
        ok = crop is None or (len(crop) == 2 and min(crop) > 0)
        check(ok, "crop_px", crop, "[height, width] or null")


@dataclass(kw_only=True)
class ToyOptions:
    """The generated toy dataset (see :mod:`refine.toy.dataset`).

    Attributes:
        seed: Scenes are a function of (seed, split, index).
        num_train: Training scenes.
        num_val: Validation scenes.
        height_px: Height of a scene.
        width_px: Width of a scene.
        crowded: More things that hide more of each other: what their order is worth shows.
    """

    seed: int = 0
    num_train: int = 400
    num_val: int = 100
    height_px: int = 128
    width_px: int = 192
    crowded: bool = False

    def __post_init__(self) -> None:
        check(self.seed >= 0, "toy.seed", self.seed, "0 or more")
        check_positive(self, "num_train", "num_val", "height_px", "width_px")


@dataclass(kw_only=True)
class OcclusionPairsOptions:
    """Which instance lies on top of which, from the annotations, to train occlusion heads on.

    Attributes:
        overlap_thresh: A pair counts if this share of either outline lies in the other (rho).
        folder: Where the pairs of a split are kept once they are found
            (``occlusion_pairs_{split}.json``); None is ``ROOT/annotations``.
    """

    overlap_thresh: float = 0.2
    folder: str | None = None

    def __post_init__(self) -> None:
        check_fractions(self, "overlap_thresh")


@dataclass(kw_only=True)
class DataOptions:
    """A COCO-panoptic dataset and how it is fed.

    Attributes:
        root: Folder that holds the images and ``annotations/`` (or the official zips).
        train_split: Name of the training split, as in ``annotations/panoptic_{split}.json``.
        val_split: Name of the evaluation split.
        train_image_ids: Train on these images only, or None for all.
        val_image_ids: Evaluate these images only, or None for all.
        batch_size: Images a training step, over all devices together.
        num_workers: Loader processes a device; 0 loads in the main process.
        cache_dir: Where compressed inner zips are spooled once; None is ``ROOT/.refine_cache``.
        image: Size and augmentation.
        anchors: RPN anchors.
        stuff_area_limit_px: Stuff segments with fewer original pixels become void.
        occlusion_pairs: Ordered pairs for the occlusion heads.
        toy: Generate the dataset into ``root`` if it is not there (``data=toy``).
    """

    root: str = "data/coco"
    train_split: str = "train2017"
    val_split: str = "val2017"
    train_image_ids: list[int] | None = None
    val_image_ids: list[int] | None = None
    batch_size: int = 16
    num_workers: int = 4
    cache_dir: str | None = None
    image: ImageOptions = field(default_factory=ImageOptions)
    anchors: AnchorOptions = field(default_factory=AnchorOptions)
    stuff_area_limit_px: int = 4096
    occlusion_pairs: OcclusionPairsOptions = field(default_factory=OcclusionPairsOptions)
    toy: ToyOptions | None = None

    def __post_init__(self) -> None:
        check_positive(self, "batch_size")
        check(self.num_workers >= 0, "num_workers", self.num_workers, "0 or more")
        limit = self.stuff_area_limit_px
        check(limit >= 0, "stuff_area_limit_px", limit, "0 or more")
