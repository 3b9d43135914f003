"""What ``experiment=finetune`` chooses, from facts that are known."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import yaml

from make.dataset import write_tree
from refine.coco_format.layout import open_dataset
from refine.config import compose
from refine.config.flatten import flatten
from refine.data.coco_panoptic import CocoPanopticDataset
from refine.options import ImageOptions, to_plain
from refine.runs.checkpoint import Checkpoint
from refine.workflows.choose_settings import DataFacts, choose, choose_from_data

GIB = 2**30


def _facts(count=1000, size=(480, 640), sides=(0.2,)):
    return DataFacts(
        sizes=np.tile(size, (count, 1)), thing_sides=np.array(sides),
        num_things=3, num_categories=5,
    )  # fmt: skip


def _choose(facts, *overrides, start=None, free=64 * GIB):
    settings = compose("train", ["experiment=finetune", *overrides])
    return choose(settings, facts, start, free=free)


@pytest.mark.parametrize(
    ("count", "batch", "steps", "frozen"),
    [
        (3, 1, 300, 4), (20, 2, 500, 4), (49, 4, 613, 4), (50, 4, 625, 3), (100, 8, 625, 3),
        (499, 16, 1560, 3), (1000, 16, 3125, 2), (5000, 16, 15625, 0), (100_000, 16, 20_000, 0),
    ],
)  # fmt: skip
def test_batch_steps_and_frozen_stages_follow_the_number_of_images(count, batch, steps, frozen):
    settings, lines = _choose(_facts(count))
    assert settings.data.batch_size == batch
    assert settings.schedule.max_steps == settings.trainer.max_steps == steps
    assert settings.schedule.warmup_steps == min(-(-steps // 10), 500)
    assert settings.trainer.val_check_interval == -(-steps // 5)
    assert settings.model.backbone.frozen_stages == frozen
    assert f"{count} images of 480 x 640" in lines[0]
    assert f"batch {batch}, " in lines[0]
    assert ("nothing" in lines[1].partition("; given")[0]) == (frozen == 0)


@pytest.mark.parametrize(
    ("size", "short", "longest"),
    [
        ((480, 640), 480, 800), ((128, 192), 128, 213), ((64, 64), 128, 213),
        ((3000, 4000), 800, 1333), ((1000, 390), 384, 960), ((200, 2000), 192, 480),
    ],
)  # fmt: skip
def test_sizes_follow_the_median_image(size, short, longest):
    image = _choose(_facts(size=size))[0].data.image
    assert image.eval_short_side_px == short
    assert image.max_long_side_px == longest
    assert image.train_short_sides_px[-1] == short == max(image.train_short_sides_px)


@pytest.mark.parametrize(
    ("sides", "smallest"),
    [((0.02, 0.1), 8), ((0.2,), 16), ((0.05, 0.9), 32), ((0.3, 2.5), 64), ((), 16)],
)
def test_anchors_hold_most_things(sides, smallest):
    settings, lines = _choose(_facts(sides=sides))  # at 480 px
    assert settings.data.anchors.sizes_px == [smallest * 2**k for k in range(5)]
    assert "(100 % of the things)" in lines[0]


def test_the_batch_fits_the_memory_and_accumulation_counts():
    wide, tight = (_choose(_facts(), free=n * GIB)[0].data.batch_size for n in (64, 4))
    assert 1 <= tight < wide == 16
    assert "fits" not in _choose(_facts())[1][0]
    settings, lines = _choose(_facts(), free=GIB // 100)
    assert settings.data.batch_size == 1
    assert "batch 1 (no more fits the memory)" in lines[0]
    settings, _ = _choose(_facts(), "trainer.accumulate_grad_batches=4")
    assert settings.schedule.max_steps == 782  # 50 times 1000 images in steps of 64
    assert settings.trainer.val_check_interval == 4 * 157


def test_what_is_given_stays():
    given = {
        "data.batch_size": 3, "data.image.eval_short_side_px": 200, "schedule.warmup_steps": 7,
        "trainer.max_steps": 11, "model.backbone.frozen_stages": 1,
        "data.anchors.sizes_px": [1, 2, 3, 4, 5],
    }  # fmt: skip
    settings, lines = _choose(_facts(), *(f"{k}={v}" for k, v in given.items()))
    found = flatten(to_plain(settings))
    assert {k: found[k] for k in given} == given
    assert settings.schedule.max_steps == 11  # the whole run, no trial of a longer one
    assert lines[1].endswith(f"given, so not chosen: {', '.join(given)}")
    of_group = compose("train", ["experiment=finetune", "data=coco_142"])
    assert _choose(_facts(), "data=coco_142")[0].data == of_group.data
    assert _choose(_facts(), "schedule=1x")[0].schedule.max_steps == 90_000


def test_without_pretrained_weights_nothing_is_frozen():
    assert _choose(_facts(20), "weights=none")[0].model.backbone.frozen_stages == 0


def test_a_checkpoint_brings_its_network_and_sizes(tmp_path):
    old = compose("train", ["experiment=toy_ibpp1"])
    config = {k: asdict(getattr(old, k)) for k in ("data", "model", "fusion")}
    start = Checkpoint(tmp_path / "a.ckpt", config, None, {})
    weights = f"weights={tmp_path / 'a.ckpt'}"
    settings, lines = _choose(_facts(20), weights, start=start)
    frozen = replace(old.model.backbone, frozen_stages=4)
    assert settings.model == replace(old.model, backbone=frozen)
    assert settings.data.anchors == old.data.anchors
    assert settings.data.image.eval_short_side_px == 128
    assert "128 px as the checkpoint" in lines[0]
    small, _ = _choose(_facts(20, size=(40, 50)), weights, start=start)
    assert small.data.image.eval_short_side_px == 128
    own, _ = _choose(_facts(20), weights, "model.ibpp.num_iterations=0", start=start)
    assert own.model.ibpp.num_iterations == 0
    given, _ = _choose(_facts(20), weights, "model=panoptic_fpn", start=start)
    assert given.model.backbone.name == "r50"
    config["data"]["image"] = asdict(ImageOptions())  # 800 x 1333, images of 200 at most 400
    large, _ = _choose(_facts(20, size=(200, 300)), weights, start=start)
    assert large.data.image.eval_short_side_px == 400
    assert large.data.image.max_long_side_px == 666
    assert large.data.image.train_short_sides_px == [320, 336, 352, 368, 384, 400]


def test_a_run_that_goes_on_keeps_its_choice_whatever_the_memory(tmp_path, monkeypatch, capsys):
    root = write_tree(tmp_path / "d", "train")
    overrides = ["experiment=finetune", f"data.root={root}", f"run_dir={tmp_path / 'run'}"]
    first = choose_from_data(compose("train", overrides))
    assert "chosen for 3 images of 8 x 6" in capsys.readouterr().out
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(first.to_plain()))
    monkeypatch.setattr(
        "refine.workflows.choose_settings.free_bytes", lambda _: pytest.fail("chosen again")
    )
    assert choose_from_data(compose("train", overrides)) == first
    again = choose_from_data(compose("train", [*overrides, "data.batch_size=7"]))
    assert again.data.batch_size == 7
    plain = compose("train", [*overrides, "choose_from_data=false"])
    assert choose_from_data(plain) == plain


def test_facts_are_counted(tmp_path):
    files = open_dataset(write_tree(tmp_path, "train"), "train")
    facts = DataFacts.of(CocoPanopticDataset(files, ImageOptions(), training=True))
    assert facts.sizes.tolist() == [[8, 12], [10, 6], [5, 5]]
    # image 1: a cat of 15 pixels and a car of 16 - 4 = 12 ...
    expected = {(12**0.5) / 8, (15**0.5) / 8, 1.0}  # ... and a crowd, which does not count
    assert set(facts.thing_sides.tolist()) == expected
    assert (facts.num_things, facts.num_categories) == (2, 4)
