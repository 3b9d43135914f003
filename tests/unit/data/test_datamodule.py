import tempfile
import warnings
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from make.dataset import instances_json, panoptic_json, write_tree
from make.errors import refused
from refine.data.datamodule import PanopticDataModule
from refine.options import DataOptions, ImageOptions

IMAGE = ImageOptions(train_short_sides_px=list(range(8, 40)), eval_short_side_px=16)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    write_tree(root, "train2017", instances=instances_json())
    return write_tree(root, "val2017")


def _datamodule(root, *, stage=None, **options):
    options = {"batch_size": 1, "num_workers": 0, "image": IMAGE} | options
    datamodule = PanopticDataModule(DataOptions(root=str(root), **options), seed=7)
    if stage:
        datamodule.setup(stage)
    return datamodule


def _trainer(rank):
    """What the data module asks of Lightning's trainer."""
    progress = SimpleNamespace(total=SimpleNamespace(state_dict=lambda: {"processed": 0}))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    return SimpleNamespace(global_rank=rank, world_size=2, fit_loop=loop, num_training_batches=9)


class _Recorder(pl.LightningModule):
    """Trains one number and notes what each batch holds."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch):
        self.seen += _contents(batch)
        return self.weight * 1.0

    def validation_step(self, batch):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def _contents(batch):
    # pixels and boxes tell the augmentation, and with it the epoch
    return [(s.image_id, int(s.image.sum()), s.target.boxes.tolist()) for s in batch.samples]


def _train_contents(datamodule):
    return [c for batch in datamodule.train_dataloader() for c in _contents(batch)]


def _fit(root, max_steps, *, folder=None, ckpt_path=None, on_epoch_end=False, **settings):
    every = {"save_on_train_epoch_end": True} if on_epoch_end else {"every_n_train_steps": 1}
    callbacks = [ModelCheckpoint(folder, save_last=True, **every)] if folder else []
    workers = settings.pop("num_workers", 0)
    trainer = pl.Trainer(
        max_steps=max_steps, callbacks=callbacks, accelerator="cpu", logger=False,
        enable_checkpointing=bool(folder), enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, use_distributed_sampler=False,
        **({"limit_val_batches": 0.0} | settings),
    )  # fmt: skip
    module = _Recorder()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(module, datamodule=_datamodule(root, num_workers=workers), ckpt_path=ckpt_path)
    assert not [w for w in caught if "not resumable" in str(w.message)]
    return module.seen


# three batches per epoch: a stop within the first, at its end, within the second
STOPS = [
    *(({"limit_val_batches": val}, 10, 10, stop) for stop in (2, 3, 4) for val in (0.0, 1.0)),
    *(({"on_epoch_end": True, "limit_val_batches": 1.0}, 10, 10, stop) for stop in (2, 3, 4)),
    ({"on_epoch_end": True}, 10, 10, 4),
    # steps end with batches 2 and 3 of an epoch: Lightning steps on the last batch too
    *(({"accumulate_grad_batches": 2}, 8, 12, stop) for stop in (1, 2, 3)),
    *(({"limit_train_batches": 2}, 6, 6, stop) for stop in (1, 2)),
    ({"num_workers": 2}, 8, 8, 4),
]


@pytest.mark.parametrize(("settings", "steps", "batches", "stop"), STOPS)
def test_a_resumed_run_sees_what_an_uninterrupted_one_would(
    root, tmp_path, settings, steps, batches, stop
):
    whole = _fit(root, steps, **settings | {"num_workers": 0})
    first = _fit(root, stop, folder=tmp_path, **settings)
    rest = _fit(root, steps, ckpt_path=tmp_path / "last.ckpt", **settings)
    assert len(whole) == batches
    assert first == whole[: len(first)]
    assert first + rest == whole


def test_workers_are_refused_where_they_could_hand_nothing_over(root, monkeypatch):
    datamodule = _datamodule(root, num_workers=2, stage="fit")
    monkeypatch.setattr(tempfile, "tempdir", f"/{75 * 't'}")
    with refused(f"TMPDIR=/{75 * 't'}: ", "data.num_workers=2", "at most 75 bytes"):
        next(iter(datamodule.train_dataloader()))
    assert len([*_datamodule(root, stage="fit").train_dataloader()]) > 0  # alone


def test_epochs_differ_in_order_and_augmentation(root):
    seen = _fit(root, 12)
    epochs = [seen[k : k + 3] for k in range(0, 12, 3)]
    assert all(sorted(i for i, *_ in epoch) == [1, 2, 3] for epoch in epochs)
    assert len({tuple(i for i, *_ in epoch) for epoch in epochs}) > 1
    assert len({pixels for i, pixels, _ in seen if i == 1}) == 4


def test_ranks_share_every_global_batch(root):
    datamodule = _datamodule(root, batch_size=2, stage="fit")
    together = _train_contents(datamodule)
    parts = []
    for rank in range(2):
        datamodule.trainer = _trainer(rank)
        parts.append(_train_contents(datamodule))
    assert [c for pair in zip(*parts, strict=True) for c in pair] == together


def test_validation_gives_every_image_once_and_marks_the_padding(root):
    datamodule = _datamodule(root, stage="validate")
    samples = []
    for rank in range(2):
        datamodule.trainer = _trainer(rank)
        samples += [s for batch in datamodule.val_dataloader() for s in batch.samples]
    assert sorted(s.image_id for s in samples if not s.is_padding) == [1, 2, 3]
    assert [s.image_id for s in samples if s.is_padding] == [1]


def test_evaluation_reads_no_training_split(tmp_path):
    datamodule = _datamodule(write_tree(tmp_path, "val2017"))
    with pytest.raises(ValueError, match="setup"):
        datamodule.val_dataset  # noqa: B018
    datamodule.setup("validate")
    assert len(datamodule.categories) == 4
    with pytest.raises(ValueError, match="setup"):
        datamodule.train_dataset  # noqa: B018
    dataset = datamodule.val_dataset
    datamodule.setup("validate")  # reads nothing again
    assert datamodule.val_dataset is dataset


def test_splits_with_different_categories_are_refused(tmp_path):
    write_tree(tmp_path, "train2017")
    content = panoptic_json()
    content["categories"] = [dict(c, name=c["name"] + "s") for c in content["categories"]]
    write_tree(tmp_path, "val2017", panoptic=content)
    with refused("panoptic_train2017.json", " different categories"):
        _datamodule(tmp_path, stage="fit")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_bad_input_is_one_line_also_out_of_a_worker(tmp_path, num_workers):
    write_tree(tmp_path, "val2017")
    (tmp_path / "val2017" / "0001.jpg").unlink()
    datamodule = _datamodule(tmp_path, num_workers=num_workers, stage="validate")
    with refused(tmp_path / "val2017", "no file '0001.jpg'"):
        list(datamodule.val_dataloader())
