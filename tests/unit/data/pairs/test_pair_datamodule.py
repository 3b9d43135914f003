import json

import pytest
import torch

from make.errors import refused
from refine.data.pairs.pair_datamodule import OcclusionDataModule
from refine.options import DataOptions, ImageOptions, OcclusionPairsOptions

IMAGE = ImageOptions(train_short_sides_px=list(range(64, 128)), eval_short_side_px=96)


@pytest.fixture(scope="module")
def ready(overlapping_toys, tmp_path_factory):
    """Makes data modules of the toy scenes that keep their pairs in one folder."""
    root, toy = overlapping_toys
    pairs = OcclusionPairsOptions(folder=str(tmp_path_factory.mktemp("pairs")))

    def make(*, stage="fit", batch_size=4, prepare=True, **options):
        given = {"num_workers": 0, "image": IMAGE, "toy": toy, "occlusion_pairs": pairs} | options
        datamodule = OcclusionDataModule(
            DataOptions(root=str(root), **given), seed=3, batch_size=batch_size
        )
        if prepare:
            datamodule.prepare_data()
        datamodule.setup(stage)
        return datamodule

    return make


def samples_of(loader):
    return [sample for batch in loader for sample in batch.samples]


def test_training_batches_have_all_pairs_in_the_true_order(ready, overlapping_toys):
    datamodule = ready(batch_size=1)
    path = overlapping_toys[0] / "annotations" / "instances_train2017.json"
    depths = {}  # of the instances that are no crowds, by image and place
    for a in json.loads(path.read_text())["annotations"]:
        if not a["iscrowd"]:
            depths.setdefault(a["image_id"], []).append(a["depth"])
    table = torch.zeros(6, 6, dtype=torch.int64)
    for sample in samples_of(datamodule.train_dataloader()):
        target, depth = sample.target, torch.tensor(depths[sample.image_id])
        assert len(target.boxes) == len(depth)  # nothing is cut off, so places are the file's
        assert len(target.pairs) >= 1
        assert (depth[target.pairs[:, 0]] > depth[target.pairs[:, 1]]).all()
        for upper, lower in target.labels[target.pairs].tolist():
            table[upper, lower] += 1
    assert datamodule.train_pairs.tolist() == table.tolist()
    assert table.sum() > 0


def test_validation_has_targets_in_the_geometry_of_evaluation(ready):
    datamodule = ready(stage="validate")
    batches = list(datamodule.val_dataloader())
    assert {len(batch.samples) for batch in batches[:-1]} == {4}
    samples = samples_of(batches)
    assert all(tuple(s.image.shape[1:]) == (96, 144) for s in samples)
    assert all(len(s.target.pairs) for s in samples)
    assert not any(s.is_padding for s in samples)
    ids = [s.image_id for s in samples]
    assert ids == sorted(set(ids))
    with pytest.raises(ValueError, match="setup"):
        datamodule.train_pairs  # noqa: B018


def test_chosen_images_alone_count(ready):
    every = ready()
    chosen = [s.image_id for s in samples_of(every.train_dataloader())][:6]
    without = next(i for i in range(1, 71) if i not in every.train_dataset.image_ids)
    few = ready(batch_size=1, train_image_ids=[without, *chosen])
    assert sorted(s.image_id for s in samples_of(few.train_dataloader())) == sorted(chosen)
    assert 6 <= few.train_pairs.sum() < every.train_pairs.sum()
    with refused("no image id 12345"):
        ready(train_image_ids=[12345])
    with refused("no two instances overlap by", "overlap_thresh=0.2 in any image; lower it"):
        ready(train_image_ids=[without])


def test_pairs_are_kept_for_the_next_run(ready, monkeypatch):
    ready()
    failing = "refine.data.pairs.pair_cache.build_pairs"
    monkeypatch.setattr(failing, lambda *_, **__: pytest.fail("built again"))
    # setup alone, as on the other ranks
    assert ready(prepare=False).train_pairs.sum() > 0
