"""Images with ordered pairs of instances, as the second training stage asks for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refine.categories import CategoryTable
from refine.coco_format.layout import DatasetFiles
from refine.data.coco_panoptic import CocoPanopticDataset
from refine.data.datamodule import ResumableDataModule, require_same_categories
from refine.data.loader import BatchLoader, ResumableLoader
from refine.data.pairs.occlusion_pairs import OcclusionPairs
from refine.data.pairs.pair_building import require_instances
from refine.data.pairs.pair_cache import ensure_pairs, pairs_path
from refine.errors import RefineError
from refine.options import DataOptions


@dataclass(frozen=True, slots=True, eq=False)
class _Split:
    """The images of a split that have pairs, and how often each category lies on each other."""

    dataset: CocoPanopticDataset
    counts: np.ndarray


class OcclusionDataModule(ResumableDataModule):
    """The images of a dataset in which instances overlap, with who lies on top of whom.

    Every batch has training targets with ``pairs``. A target may have none: a crop can cut off one
    of every pair.

    Args:
        options: The dataset and how it is fed (but for its ``batch_size``).
        seed: Of the order of the images and of their augmentation.
        batch_size: Images a training step, over all devices together; and as many are validated at
            a time.
    """

    def __init__(self, options: DataOptions, *, seed: int, batch_size: int) -> None:
        super().__init__(options, seed=seed)
        self.batch_size = batch_size
        self._files: dict[str, DatasetFiles] = {}
        self._pairs: dict[str, OcclusionPairs] = {}
        self._train: _Split | None = None
        self._val: _Split | None = None

    def prepare_data(self) -> None:
        """Generate the toy dataset if asked for, and find the pairs of both splits.

        Raises:
            RefineError: The root holds something else than the toy dataset, a part of the dataset
                is missing or malformed, there are no instances, or the pairs cannot be written.
        """
        super().prepare_data()
        for split in (self.options.train_split, self.options.val_split):
            self._find_pairs(split)

    def setup(self, stage: str) -> None:
        """Read annotations and pairs: of both splits to fit, else of the evaluation split alone.

        Raises:
            RefineError: As :meth:`prepare_data`; also if the splits have different categories, or
                one has no pair at all.
        """
        options = self.options
        if self._val is None:
            self._val = self._choose(options.val_split, options.val_image_ids, augment=False)
        if stage == "fit" and self._train is None:
            self._train = self._choose(options.train_split, options.train_image_ids, augment=True)
            require_same_categories(self._train.dataset.files, self._val.dataset.files)

    def _choose(self, split: str, image_ids: Sequence[int] | None, *, augment: bool) -> _Split:
        files, pairs = self._find_pairs(split)
        # the dataset checks the ids before those without a pair are left out
        every = CocoPanopticDataset(files, self.options.image, training=True, image_ids=image_ids)
        pairs = pairs.of_images(every.image_ids)
        with_pairs = set(pairs.image_ids.tolist())
        if not with_pairs:
            thresh = self.options.occlusion_pairs.overlap_thresh
            raise RefineError(
                f"{files.annotations.source}: no two instances overlap by "
                f"data.occlusion_pairs.overlap_thresh={thresh} in any image; lower "
                "it, or take more images"
            )
        dataset = CocoPanopticDataset(
            files,
            self.options.image,
            training=True,
            augment=augment,
            seed=self.seed,
            image_ids=[i for i in every.image_ids if i in with_pairs],
            pairs=pairs,
        )
        counts = pairs.count_categories(require_instances(files), dataset.categories.num_things)
        return _Split(dataset, counts)

    def _find_pairs(self, split: str) -> tuple[DatasetFiles, OcclusionPairs]:
        """Read or built once a process."""
        if split not in self._pairs:
            options = self.options.occlusion_pairs
            files = self._open(split)
            self._pairs[split] = ensure_pairs(
                files,
                pairs_path(Path(self.options.root), split, options),
                options,
                num_processes=max(self.options.num_workers, 1),
            )
            self._files[split] = files
        return self._files[split], self._pairs[split]

    @property
    def categories(self) -> CategoryTable:
        """The categories of the dataset (after :meth:`setup`)."""
        return self._val_split.dataset.categories

    @property
    def train_pairs(self) -> np.ndarray:
        """``[num_things, num_things]`` int64: training pairs, row's category on column's.

        Raises:
            ValueError: ``setup("fit")`` has not been called.
        """
        return self._train_split.counts

    @property
    def val_pairs(self) -> np.ndarray:
        """``[num_things, num_things]`` int64: evaluation pairs, row's category on column's.

        Raises:
            ValueError: ``setup`` has not been called.
        """
        return self._val_split.counts

    @property
    def _train_split(self) -> _Split:
        if self._train is None:
            raise ValueError("call setup('fit') first")
        return self._train

    @property
    def _val_split(self) -> _Split:
        if self._val is None:
            raise ValueError("call setup() first")
        return self._val

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled, augmented batches; this rank's share of ``batch_size`` images each."""
        return self._train_loader(self._train_split.dataset, self.batch_size)

    def val_dataloader(self) -> BatchLoader:
        """Batches at evaluation size in the split's order; over several ranks, padded.

        Each rank has its share of ``batch_size`` images at a time.
        """
        _, world_size = self._rank()
        return self._val_loader(self._val_split.dataset, max(self.batch_size // world_size, 1))
