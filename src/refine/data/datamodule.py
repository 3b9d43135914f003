"""Both splits of a dataset, as Lightning asks for them."""

import os
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from refine.categories import CategoryTable
from refine.coco_format.layout import open_split
from refine.data.coco_panoptic import CocoPanopticDataset
from refine.data.collate import collate
from refine.data.forked_workers import keep_garbage
from refine.data.samplers import TrainBatchSampler, eval_places
from refine.errors import RefineError
from refine.options import DataOptions
from refine.toy.dataset import ensure_toy_dataset
from refine.types import Batch

_LONGEST = 107 - len("/pymp-01234567/listener-01234567")
"""Bytes of the path of a folder in which Python can open a socket."""


class BatchLoader(DataLoader[Any]):
    """A DataLoader that can be resumed.

    Lightning warns that a run resumed within an epoch sees other data unless the loader can save
    and load a state. This one can, and the state is empty: the position is a function of the
    trainer's count of batches (:class:`ResumableDataModule`).
    """

    # torch promises its private iterator class here; whoever iterates needs an iterator only
    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Iterate; workers start when the first batch is asked for.

        A ``RefineError`` if they could not hand a batch over: this process would wait for ever.
        """
        folder = tempfile.gettempdir()
        if self.num_workers > 0 and len(os.fsencode(folder)) > _LONGEST:
            raise RefineError(
                f"TMPDIR={folder}: too long for the sockets of data.num_workers="
                f"{self.num_workers}; set TMPDIR to a folder of at most {_LONGEST} bytes"
            )
        with keep_garbage():
            batches = super().__iter__()
        yield from batches

    def state_dict(self) -> dict[str, Any]:
        """An empty state."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load nothing."""


class ResumableDataModule(pl.LightningDataModule):
    """Feeds a dataset to trainings that can be stopped and resumed anywhere.

    Training continues with the batch after the last one trained on, also within an epoch
    and on another number of devices. Lightning itself continues its counters but would start the
    epoch's data over, and its count of epochs is one ahead after a stop within an epoch. What it
    does keep exactly, in every kind of checkpoint, is the number of batches trained on in all
    (``batch_progress.total.processed``); epoch and position in it follow from that number, whenever
    an iteration over the loader begins. The trainer needs ``use_distributed_sampler=False``.

    A training step has ``batch_size`` images over all devices together, an evaluation step
    ``val_batch_size``, but at least one per device. ``seed`` is that of order and augmentation.
    """

    def __init__(
        self, options: DataOptions, *, seed: int, batch_size: int, val_batch_size: int
    ) -> None:
        super().__init__()
        self.options = options
        self.seed = seed
        self.batch_size = batch_size
        self.val_batch_size = val_batch_size
        self._train: CocoPanopticDataset | None = None
        self._val: CocoPanopticDataset | None = None

    def prepare_data(self) -> None:
        """Generate the toy dataset if asked for; a RefineError if the root cannot hold it."""
        if self.options.toy is not None:
            # one process: a second would import the caller's torch before it draws anything
            ensure_toy_dataset(Path(self.options.root), self.options.toy)

    def setup(self, stage: str) -> None:
        """Read the annotations: of both splits to fit, else of the evaluation split alone.

        Raises:
            RefineError: A part of the dataset is missing, malformed or cannot be used, or the
                splits have different categories.
        """
        options = self.options
        if self._val is None:
            self._val = self._dataset(options.val_split, options.val_image_ids, is_train=False)
            self._val.check()
        if stage == "fit" and self._train is None:
            self._train = self._dataset(options.train_split, options.train_image_ids, is_train=True)
            self._train.check()
            if self._train.categories != self._val.categories:
                names = [d.files.annotations.source for d in (self._train, self._val)]
                raise RefineError(f"{' and '.join(names)} list different categories; fix one")

    @abstractmethod
    def _dataset(
        self, split: str, image_ids: Sequence[int] | None, *, is_train: bool
    ) -> CocoPanopticDataset:
        """The images of a split, to train or to evaluate on."""

    @property
    def train_dataset(self) -> CocoPanopticDataset:
        """The training split; a ValueError before ``setup("fit")``."""
        if self._train is None:
            raise ValueError("call setup('fit') first")
        return self._train

    @property
    def val_dataset(self) -> CocoPanopticDataset:
        """The evaluation split; a ValueError before :meth:`setup`."""
        if self._val is None:
            raise ValueError("call setup() first")
        return self._val

    @property
    def source(self) -> str:
        """Name of the annotations of the evaluation split, for messages (after :meth:`setup`)."""
        return self.val_dataset.files.annotations.source

    @property
    def categories(self) -> CategoryTable:
        """The categories of the dataset (after :meth:`setup`)."""
        return self.val_dataset.categories

    def train_dataloader(self) -> BatchLoader:
        """Shuffled, augmented batches; this rank's share of ``batch_size`` images each."""
        dataset = self.train_dataset
        sampler = TrainBatchSampler(
            dataset.is_wide,
            batch_size=self.batch_size,
            seed=self.seed,
            position=lambda: self._position(len(sampler)),
            **self._rank(),
        )
        return BatchLoader(dataset, batch_sampler=sampler, **self._loading())

    def val_dataloader(self) -> BatchLoader:
        """Batches in the split's order; over several ranks, strided and padded."""
        dataset = self.val_dataset
        ranks = self._rank()
        return BatchLoader(
            dataset,
            batch_size=max(self.val_batch_size // ranks["world_size"], 1),
            sampler=eval_places(len(dataset), **ranks),
            **self._loading(),
        )

    def transfer_batch_to_device(
        self,
        batch: Batch,
        device: torch.device,
        dataloader_idx: int,  # noqa: ARG002 - Lightning's signature
    ) -> Batch:
        """The batch on the device; the host does not wait for the copies."""
        return batch.to(device, non_blocking=True)

    def _rank(self) -> dict[str, int]:
        if self.trainer is None:
            return {"rank": 0, "world_size": 1}
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}

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
        epoch, batch = divmod(int(progress.total.state_dict()["processed"]), length)
        repeats = bool(getattr(self.trainer, "overfit_batches", 0))  # it learns one epoch by heart
        return (0 if repeats else epoch), batch


class PanopticDataModule(ResumableDataModule):
    """A COCO-panoptic dataset, to train a detector and evaluate it on one image at a time.

    With ``val_targets`` evaluation samples have training targets, too, for validation losses.
    """

    def __init__(self, options: DataOptions, *, seed: int, val_targets: bool = False) -> None:
        super().__init__(options, seed=seed, batch_size=options.batch_size, val_batch_size=1)
        self.val_targets = val_targets

    def _dataset(
        self, split: str, image_ids: Sequence[int] | None, *, is_train: bool
    ) -> CocoPanopticDataset:
        options, image = self.options, self.options.image
        files = open_split(options, split).choose(options.categories)
        dataset = CocoPanopticDataset(
            files, image, training=is_train, seed=self.seed, image_ids=image_ids
        )
        dataset.has_targets = is_train or self.val_targets
        return dataset
