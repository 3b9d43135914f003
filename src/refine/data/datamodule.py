"""Both splits of a dataset, as Lightning asks for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from refine.categories import CategoryTable
from refine.coco_format.layout import DatasetFiles, open_dataset
from refine.data.coco_panoptic import CocoPanopticDataset
from refine.data.collate import collate
from refine.data.loader import BatchLoader, ResumableLoader
from refine.data.samplers import EvalSampler, TrainBatchSampler
from refine.errors import RefineError
from refine.options import DataOptions
from refine.toy.dataset import ensure_toy_dataset


class ResumableDataModule(pl.LightningDataModule):
    """Feeds a dataset to trainings that can be stopped and resumed anywhere.

    Training goes on with the batch after the last one trained on, also within an epoch
    and on another number of devices. Lightning itself continues its counters but would start the
    epoch's data over, and its count of epochs is one ahead after a stop within an epoch. What it
    does keep exactly, in every kind of checkpoint, is the number of batches trained on in all
    (``batch_progress.total.processed``); epoch and place in it follow from that number, whenever an
    iteration over the loader begins. The trainer needs ``use_distributed_sampler=False``.

    Args:
        options: The dataset and how it is fed.
        seed: Of the order of the images and of their augmentation.
    """

    def __init__(self, options: DataOptions, *, seed: int) -> None:
        super().__init__()
        self.options = options
        self.seed = seed

    def prepare_data(self) -> None:
        """Generate the toy dataset if that is what the options ask for.

        Raises:
            RefineError: The root holds something else, or cannot be written.
        """
        if self.options.toy is not None:
            # one process: a second would import the caller's torch before it draws anything
            ensure_toy_dataset(Path(self.options.root), self.options.toy)

    def _open(self, split: str) -> DatasetFiles:
        cache_dir = self.options.cache_dir
        return open_dataset(
            Path(self.options.root), split, cache_dir=Path(cache_dir) if cache_dir else None
        )

    def _train_loader(self, dataset: CocoPanopticDataset, batch_size: int) -> ResumableLoader:
        """Shuffled batches; this rank's share of ``batch_size`` images each."""
        rank, world_size = self._rank()
        sampler = TrainBatchSampler(
            dataset.is_wide,
            batch_size=batch_size,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            position=lambda: self._position(len(sampler)),
        )
        return ResumableLoader(dataset, batch_sampler=sampler, **self._loading())

    def _val_loader(self, dataset: CocoPanopticDataset, batch_size: int) -> BatchLoader:
        """``batch_size`` images at a time in the dataset's order; ranks strided and padded."""
        rank, world_size = self._rank()
        sampler = EvalSampler(len(dataset), rank=rank, world_size=world_size)
        return BatchLoader(dataset, batch_size=batch_size, sampler=sampler, **self._loading())

    def _rank(self) -> tuple[int, int]:
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def _loading(self) -> dict[str, Any]:
        return {
            "collate_fn": collate,
            "num_workers": self.options.num_workers,
            "persistent_workers": self.options.num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
        }

    def _position(self, num_batches: int) -> tuple[int, int]:
        """Epoch, and batches of it already trained on."""
        if self.trainer is None:
            return 0, 0
        # the trainer counts its own limit (limit_train_batches) as an epoch, once it has set up
        length = int(min(num_batches, self.trainer.num_training_batches))
        progress = self.trainer.fit_loop.epoch_loop.batch_progress
        return divmod(int(progress.total.state_dict()["processed"]), length)


class PanopticDataModule(ResumableDataModule):
    """A COCO-panoptic dataset, to train and evaluate a detector.

    Args:
        options: The dataset and how it is fed.
        seed: Of the order of the images and of their augmentation.
    """

    def __init__(self, options: DataOptions, *, seed: int) -> None:
        super().__init__(options, seed=seed)
        self._train: CocoPanopticDataset | None = None
        self._val: CocoPanopticDataset | None = None

    def setup(self, stage: str) -> None:
        """Read the annotations: of both splits to fit, else of the evaluation split alone.

        Raises:
            RefineError: A part of the dataset is missing or malformed, or the splits have
                different categories.
        """
        options = self.options
        if self._val is None:
            self._val = self._dataset(options.val_split, options.val_image_ids, training=False)
        if stage == "fit" and self._train is None:
            self._train = self._dataset(options.train_split, options.train_image_ids, training=True)
            require_same_categories(self._train.files, self._val.files)

    def _dataset(
        self, split: str, image_ids: Sequence[int] | None, *, training: bool
    ) -> CocoPanopticDataset:
        return CocoPanopticDataset(
            self._open(split),
            self.options.image,
            training=training,
            seed=self.seed,
            image_ids=image_ids,
        )

    @property
    def train_dataset(self) -> CocoPanopticDataset:
        """The training split.

        Raises:
            ValueError: ``setup("fit")`` has not been called.
        """
        if self._train is None:
            raise ValueError("call setup('fit') first")
        return self._train

    @property
    def val_dataset(self) -> CocoPanopticDataset:
        """The evaluation split.

        Raises:
            ValueError: ``setup`` has not been called.
        """
        if self._val is None:
            raise ValueError("call setup() first")
        return self._val

    @property
    def categories(self) -> CategoryTable:
        """The categories of the dataset (after :meth:`setup`)."""
        return self.val_dataset.categories

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled, augmented batches; this rank's share of ``batch_size`` images each."""
        return self._train_loader(self.train_dataset, self.options.batch_size)

    def val_dataloader(self) -> BatchLoader:
        """Single images in the split's order; over several ranks, strided and padded."""
        return self._val_loader(self.val_dataset, batch_size=1)


def require_same_categories(train: DatasetFiles, val: DatasetFiles) -> None:
    """Compare the splits of a dataset.

    Raises:
        RefineError: Their categories differ.
    """
    if train.annotations.categories != val.annotations.categories:
        names = f"{train.annotations.source} and {val.annotations.source}"
        raise RefineError(f"{names} list different categories; make them equal")
