import json

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from make.dataset import instances_json, panoptic_json, write_tree
from refine.data.pairs.pair_datamodule import OcclusionDataModule
from refine.errors import RefineError
from refine.options import DataOptions, ImageOptions, OcclusionPairsOptions, ToyOptions

IMAGE = ImageOptions(train_short_sides_px=list(range(64, 128)), eval_short_side_px=96)


@pytest.fixture(scope="module")
def pairs_folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("pairs"))


def make(overlapping_toys, pairs_folder, *, batch_size=4, **options):
    root, toy = overlapping_toys
    given = {"num_workers": 0, "image": IMAGE, "toy": toy} | options
    thresh = given.pop("overlap_thresh", 0.2)
    return OcclusionDataModule(
        DataOptions(
            root=str(root),
            occlusion_pairs=OcclusionPairsOptions(folder=pairs_folder, overlap_thresh=thresh),
            **given,
        ),
        seed=3,
        batch_size=batch_size,
    )


def ready(*args, stage="fit", **options):
    datamodule = make(*args, **options)
    datamodule.prepare_data()
    datamodule.setup(stage)
    return datamodule


def depth_of(root, split):
    """Depth of every instance that is no crowd, by image and place."""
    entries = json.loads((root / "annotations" / f"instances_{split}2017.json").read_text())
    depths = {}
    for a in entries["annotations"]:
        if not a["iscrowd"]:
            depths.setdefault(a["image_id"], []).append(a["depth"])
    return depths


def test_training_batches_have_pairs_in_the_true_order(overlapping_toys, pairs_folder):
    datamodule = ready(overlapping_toys, pairs_folder)
    depths = depth_of(overlapping_toys[0], "train")
    num_pairs = 0
    for batch in datamodule.train_dataloader():
        assert len(batch.samples) == 4
        for sample, target in zip(batch.samples, batch.targets, strict=True):
            depth = torch.tensor(depths[sample.image_id])
            assert len(target.boxes) == len(depth)  # nothing is cut off, so places are the file's
            assert len(target.pairs) >= 1
            assert (depth[target.pairs[:, 0]] > depth[target.pairs[:, 1]]).all()
            num_pairs += len(target.pairs)
    assert 0.8 * datamodule.train_pairs.sum() <= num_pairs <= datamodule.train_pairs.sum()


def test_crops_drop_pairs_with_their_members(overlapping_toys, pairs_folder):
    image = ImageOptions(train_short_sides_px=[96], eval_short_side_px=96, crop_px=[40, 40])
    cropped = ready(overlapping_toys, pairs_folder, image=image)
    targets = [t for batch in cropped.train_dataloader() for t in batch.targets]
    num_pairs = sum(len(t.pairs) for t in targets)
    assert num_pairs < 0.8 * cropped.train_pairs.sum()
    assert all(t.pairs.max() < len(t.boxes) for t in targets if len(t.pairs))
    assert any(len(t.pairs) == 0 for t in targets)


def test_category_counts_are_those_of_the_targets(overlapping_toys, pairs_folder):
    datamodule = ready(overlapping_toys, pairs_folder, batch_size=1)
    table = torch.zeros(6, 6, dtype=torch.int64)
    for batch in datamodule.train_dataloader():
        for target in batch.targets:
            for upper, lower in target.labels[target.pairs].tolist():
                table[upper, lower] += 1
    assert datamodule.train_pairs.tolist() == table.tolist()
    assert table.sum() > 0
    assert datamodule.categories.num_things == 6


def test_validation_has_targets_in_the_geometry_of_evaluation(overlapping_toys, pairs_folder):
    datamodule = ready(overlapping_toys, pairs_folder, stage="validate")
    batches = list(datamodule.val_dataloader())
    samples = [s for batch in batches for s in batch.samples]
    assert {len(batch.samples) for batch in batches[:-1]} == {4}
    assert all(tuple(s.image.shape[1:]) == (96, 144) for s in samples)
    assert all(len(s.target.pairs) for s in samples)
    assert not any(s.is_padding for s in samples)
    ids = [s.image_id for s in samples]
    assert ids == sorted(set(ids))
    with pytest.raises(ValueError, match="setup"):
        datamodule.train_pairs  # noqa: B018


def test_ranks_share_validation_and_mark_the_padding(overlapping_toys, pairs_folder):
    whole = ready(overlapping_toys, pairs_folder, stage="validate")
    expected = [s.image_id for batch in whole.val_dataloader() for s in batch.samples]
    num_ranks = next(n for n in (2, 3, 4, 5) if len(expected) % n)
    samples = []
    for rank in range(num_ranks):
        whole._rank = lambda rank=rank: (rank, num_ranks)
        batches = list(whole.val_dataloader())
        assert max(len(batch.samples) for batch in batches) == max(4 // num_ranks, 1)
        samples.append([s for batch in batches for s in batch.samples])
    assert len({len(part) for part in samples}) == 1
    together = [s for part in samples for s in part]
    assert sorted(s.image_id for s in together if not s.is_padding) == expected
    padding = num_ranks - len(expected) % num_ranks
    assert sum(s.is_padding for s in together) == padding


def test_ranks_share_every_global_batch(overlapping_toys, pairs_folder):
    whole = ready(overlapping_toys, pairs_folder)
    expected = [contents(batch) for batch in whole.train_dataloader()]
    parts = []
    for rank in range(2):
        whole._rank = lambda rank=rank: (rank, 2)
        parts.append([contents(batch) for batch in whole.train_dataloader()])
    assert [a + b for a, b in zip(*parts, strict=True)] == expected


def contents(batch):
    return [(s.image_id, int(s.image.sum()), s.target.pairs.tolist()) for s in batch.samples]


def test_chosen_images_alone_count(overlapping_toys, pairs_folder):
    every = ready(overlapping_toys, pairs_folder)
    chosen = [s.image_id for batch in every.train_dataloader() for s in batch.samples][:6]
    without = next(i for i in range(1, 71) if i not in every.train_dataset.image_ids)
    few = ready(overlapping_toys, pairs_folder, batch_size=1, train_image_ids=[without, *chosen])
    seen = [s.image_id for batch in few.train_dataloader() for s in batch.samples]
    assert sorted(seen) == sorted(chosen)
    assert 6 <= few.train_pairs.sum() < every.train_pairs.sum()
    with pytest.raises(RefineError, match="no image id 12345"):
        ready(overlapping_toys, pairs_folder, train_image_ids=[12345])
    with pytest.raises(RefineError, match="no two instances overlap"):
        ready(overlapping_toys, pairs_folder, train_image_ids=[without])


def test_pairs_are_kept_for_the_next_run(overlapping_toys, pairs_folder, monkeypatch):
    ready(overlapping_toys, pairs_folder)
    failing = "refine.data.pairs.pair_cache.build_pairs"
    monkeypatch.setattr(failing, lambda *_, **__: pytest.fail("built again"))
    ready(overlapping_toys, pairs_folder)
    # setup alone, as on the other ranks
    datamodule = make(overlapping_toys, pairs_folder)
    datamodule.setup("fit")
    assert datamodule.train_pairs.sum() > 0


def test_toy_scenes_are_made_on_demand(tmp_path):
    toy = ToyOptions(num_train=12, num_val=6, height_px=96, width_px=144)
    datamodule = OcclusionDataModule(
        DataOptions(root=str(tmp_path / "toy"), toy=toy, num_workers=0, image=IMAGE),
        seed=0,
        batch_size=2,
    )
    datamodule.prepare_data()
    datamodule.setup("fit")
    names = {p.name for p in (tmp_path / "toy" / "annotations").iterdir()}
    assert {"occlusion_pairs_train2017.json", "occlusion_pairs_val2017.json"} <= names
    assert len(next(iter(datamodule.train_dataloader())).targets) == 2


def test_loader_processes_see_the_pairs_too(overlapping_toys, pairs_folder):
    def run(num_workers):
        loader = ready(overlapping_toys, pairs_folder, num_workers=num_workers).train_dataloader()
        return [contents(batch) for batch in loader]

    assert run(0) == run(2)


class Recorder(pl.LightningModule):
    """Trains one number and notes what each batch holds."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch):
        self.seen += contents(batch)
        return self.weight * 1.0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(datamodule, max_steps, folder, ckpt_path=None):
    module = Recorder()
    trainer = pl.Trainer(
        max_steps=max_steps,
        callbacks=[ModelCheckpoint(folder, save_last=True, every_n_train_steps=1)],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0.0,
    )
    trainer.fit(module, datamodule=datamodule, ckpt_path=ckpt_path)
    return module.seen


@pytest.mark.parametrize("stop", [3, 7])
def test_a_resumed_run_sees_what_an_uninterrupted_one_would(
    overlapping_toys, pairs_folder, tmp_path, stop
):
    def datamodule():
        return make(overlapping_toys, pairs_folder, batch_size=8)

    assert len(ready(overlapping_toys, pairs_folder, batch_size=8).train_dataloader()) in (5, 6)
    whole = fit(datamodule(), 10, tmp_path / "whole")
    first = fit(datamodule(), stop, tmp_path / "part")
    rest = fit(datamodule(), 10, tmp_path / "part", ckpt_path=tmp_path / "part" / "last.ckpt")
    assert len(whole) == 80
    assert first + rest == whole


def test_a_batch_that_devices_cannot_share(overlapping_toys, pairs_folder):
    datamodule = ready(overlapping_toys, pairs_folder)
    datamodule._rank = lambda: (0, 3)
    with pytest.raises(RefineError, match="batch_size=4 cannot be shared by 3 devices"):
        datamodule.train_dataloader()


def test_a_dataset_without_instances_is_one_line(tmp_path):
    for split in ("train2017", "val2017"):
        write_tree(tmp_path, split)
    datamodule = OcclusionDataModule(DataOptions(root=str(tmp_path)), seed=0, batch_size=1)
    with pytest.raises(RefineError, match="no instances JSON") as error:
        datamodule.prepare_data()
    assert "\n" not in str(error.value)


def test_splits_with_different_categories_are_refused(tmp_path):
    write_tree(tmp_path, "train2017", instances=instances_json())
    content, outlines = panoptic_json(), instances_json()
    for part in (content, outlines):
        part["categories"] = [dict(c, name=c["name"] + "s") for c in part["categories"]]
    write_tree(tmp_path, "val2017", panoptic=content, instances=outlines)
    datamodule = OcclusionDataModule(DataOptions(root=str(tmp_path)), seed=0, batch_size=1)
    with pytest.raises(RefineError, match="different categories"):
        datamodule.setup("fit")


def test_an_overlap_that_nothing_reaches_is_one_line(tmp_path):
    for split in ("train2017", "val2017"):
        write_tree(tmp_path, split, instances=instances_json())
    options = DataOptions(
        root=str(tmp_path), occlusion_pairs=OcclusionPairsOptions(overlap_thresh=0.9)
    )
    datamodule = OcclusionDataModule(options, seed=0, batch_size=1)
    datamodule.prepare_data()
    with pytest.raises(RefineError, match=r"overlap_thresh=0.9 in any image; lower it") as error:
        datamodule.setup("fit")
    assert "\n" not in str(error.value)
