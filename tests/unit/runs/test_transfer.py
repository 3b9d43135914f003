"""A trained network starts another one whose categories may be others."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from make.batches import fake_batch, fake_sample, tiny_options
from make.errors import refused
from refine.categories import Category, CategoryTable
from refine.detector.refine_net import RefineNet
from refine.options import AnchorOptions, DataOptions, FusionOptions, SemanticOptions
from refine.runs.checkpoint import Checkpoint
from refine.runs.transfer import start_from

OLD = (["car", "cat", "dog"], ["sky", "sea"])
ORDER = (["dog", "car", "cat"], ["sea", "sky"])  # the same, by other ids
PLAIN, IBPP = tiny_options(), tiny_options(iterations=2)
MERGED = replace(PLAIN, semantic=SemanticOptions(channels=32, merge_things=True))


def _table(things, stuff):
    names = [(name, True) for name in things] + [(name, False) for name in stuff]
    return CategoryTable([
        Category(dataset_id=k, name=name, is_thing=is_thing, color=(k, k, k))
        for k, (name, is_thing) in enumerate(names, start=1)
    ])  # fmt: skip


def _network(options, table, seed):
    torch.manual_seed(seed)
    network = RefineNet(
        options, anchors=AnchorOptions(sizes_px=[8, 16, 32, 64, 128]),
        num_things=table.num_things, num_categories=len(table),
    )  # fmt: skip
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.add_(torch.rand(value.shape) * 0.02)  # so that nothing is equal by chance
    return network.eval()


def _checkpoint(network, options, table):
    sections = {"data": DataOptions(), "model": options, "fusion": FusionOptions()}
    config = {name: asdict(section) for name, section in sections.items()}
    weights = {f"network.{k}": v.clone() for k, v in network.state_dict().items()}
    return Checkpoint(Path("old.ckpt"), config, table, weights)


def _start(options, names, *, new_options=None):
    old, new = _table(*OLD), _table(*names)
    network = _network(options, old, seed=1)
    start = _network(new_options or options, new, seed=2)
    line = start_from(
        start, _checkpoint(network, options, old), new, options=(new_options or options).backbone
    )
    return network, start, line


@pytest.mark.parametrize("options", [PLAIN, IBPP, MERGED], ids=["plain", "ibpp", "merged"])
def test_equal_categories_take_everything(options):
    network, start, line = _start(options, OLD)
    state = start.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())
    assert f"{len(state)} of {len(state)} tensors; categories by name: 5 of 5 (car, cat," in line
    assert "random" not in line


@pytest.mark.parametrize("options", [PLAIN, IBPP, MERGED], ids=["plain", "ibpp", "merged"])
def test_categories_in_another_order_give_the_same_predictions_in_that_order(options):
    network, start, _ = _start(options, ORDER)
    order = [2, 0, 1, 4, 3]  # old place of each new category
    batch = fake_batch([fake_sample(np.random.default_rng(0))])
    with torch.no_grad():
        before, after = (n.predict(batch)[0] for n in (network, start))
    close = {"rtol": 1e-4, "atol": 1e-4}
    kept = [0, *order[3:]] if options is MERGED else order  # all things are one output, the first
    mine = after.semantic_logits[[0, 3, 4]] if options is MERGED else after.semantic_logits
    torch.testing.assert_close(mine, before.semantic_logits[kept], **close)
    assert len(before.boxes) > 0
    torch.testing.assert_close(after.scores.sort()[0], before.scores.sort()[0], **close)
    for new_label, old_label in enumerate(order[:3]):
        mine, yours = after.labels == new_label, before.labels == old_label
        torch.testing.assert_close(after.boxes[mine], before.boxes[yours], **close)
        torch.testing.assert_close(after.mask_logits[mine], before.mask_logits[yours], **close)


def test_new_categories_are_random_and_named():
    random = _network(IBPP, _table(["owl", "dog"], ["sky", "fog", "car"]), seed=2).state_dict()
    network, start, line = _start(IBPP, (["owl", "dog"], ["sky", "fog", "car"]))
    old, new = network.state_dict(), start.state_dict()
    # a thing is no stuff
    assert "categories by name: 2 of 5 (dog, sky); at random: owl, fog, car" in line
    name = "box_cascade.stages.0.head.classifier.weight"
    for k, expected in enumerate((old[name][0], random[name][1], old[name][3])):
        assert torch.equal(new[name][k], expected)
    name = "ibpp.semantic_predictor.predictor.bias"
    expected = [random[name][0], old[name][2], old[name][3], random[name][3], random[name][4]]
    assert new[name].tolist() == torch.stack(expected).tolist()
    assert torch.equal(
        new["backbone.fpn.inner_blocks.0.0.weight"], old["backbone.fpn.inner_blocks.0.0.weight"]
    )


def test_heads_that_are_new_stay_random_and_another_body_is_refused():
    network, start, line = _start(PLAIN, OLD, new_options=IBPP)
    assert torch.equal(start.pixel_mean, network.pixel_mean)
    assert "other tensors at random: box_cascade.stages.0.head.regressor" in line
    with refused("old.ckpt: has another body; use model.backbone.name=r18 norm=gn"):
        _start(PLAIN, OLD, new_options=tiny_options(norm="frozen_bn"))
