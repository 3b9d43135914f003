import importlib

import numpy as np
import pytest
import torch

from make.scripts import SCRIPTS, load_script
from refine.options import ToyOptions
from refine.toy.scene import generate_scene

OPTIONS = ToyOptions()


@pytest.fixture(scope="module")
def parts():
    """The modules of ``scripts/headroom``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield {
            n: importlib.import_module(f"headroom.{n}")
            for n in ("pair_crops", "network", "merging")
        }


@pytest.fixture(scope="module")
def script(parts):
    return load_script("toy_headroom")


@pytest.fixture(scope="module")
def scenes():
    return [generate_scene(OPTIONS, "val", k) for k in range(20)]


@pytest.fixture(scope="module")
def crops(parts, scenes):
    return parts["pair_crops"].cut_out(scenes)


def test_the_upper_thing_comes_first(parts, scenes):
    pairs = [pair for scene in scenes for pair in parts["pair_crops"].find_pairs(scene)]
    assert len(pairs) > 10
    for upper, lower in pairs:
        both = upper.mask & lower.mask
        assert upper.depth > lower.depth
        assert (both & upper.visible).sum() > (both & lower.visible).sum() == 0
        assert not upper.is_crowd
        assert not lower.is_crowd


def test_a_crop_shows_the_overlap_and_both_things(crops):
    assert crops.images.shape == (len(crops), 3, 40, 40)
    masks = crops.masks > 127
    both = masks[:, 0] & masks[:, 1]
    assert both.flatten(1).any(1).all()
    # the overlap is in the middle
    rows = both.any(2).float()
    middle = (rows * (torch.arange(40) + 0.5)).sum(1) / rows.sum(1)
    assert (middle - 20).abs().max() < 3
    for alone in (masks[:, 0] & ~masks[:, 1], masks[:, 1] & ~masks[:, 0]):
        assert alone.flatten(1).any(1).float().mean() > 0.9


def test_crops_and_masks_are_of_the_same_pixels(parts):
    """The window is cut to scale: at its middle lies the very pixel of the scene."""
    scene = generate_scene(OPTIONS, "val", 1)
    (pair, *_) = parts["pair_crops"].find_pairs(scene)
    marked = scene.image.copy()
    marked[..., 0] = 255 * pair.upper.mask
    crop = parts["pair_crops"]._cut(marked, pair)
    assert torch.equal(crop[0], crop[3])


def test_the_network_answers_both_orders_alike(parts, crops):
    network = parts["network"].OrderNetwork().eval()
    answers = parts["network"].order_pairs(network, crops, use_image=True)
    assert answers.dtype == torch.bool
    swapped = parts["pair_crops"].PairCrops(
        crops.images, crops.masks.flip(1), crops.areas, crops.categories
    )
    assert torch.equal(parts["network"].order_pairs(network, swapped, use_image=True), ~answers)


def test_without_the_image_it_does_not_matter(parts, crops):
    network = parts["network"].OrderNetwork().eval()
    dark = parts["pair_crops"].PairCrops(
        torch.zeros_like(crops.images), crops.masks, crops.areas, crops.categories
    )
    answers = [parts["network"].order_pairs(network, c, use_image=False) for c in (crops, dark)]
    assert torch.equal(*answers)


def test_training_learns_what_it_is_shown(parts, crops):
    """A mark in the image tells the order: a few epochs are enough to read it."""
    torch.manual_seed(0)
    marked = crops.images // 8
    marked[crops.masks[:, None, 0].expand(-1, 3, -1, -1) > 127] = 255
    repeated = parts["pair_crops"].PairCrops(
        marked.repeat(4, 1, 1, 1), crops.masks.repeat(4, 1, 1, 1), crops.areas, crops.categories
    )
    training = parts["network"].Training(num_epochs=6, seed=0, use_image=True)
    network = parts["network"].train_network(repeated, training)
    assert parts["network"].order_pairs(network, repeated, use_image=True).float().mean() > 0.9


def test_the_usual_order_of_categories(parts):
    def crops_of(categories):
        nothing = torch.zeros(len(categories), 1)
        return parts["pair_crops"].PairCrops(nothing, nothing, None, np.array(categories))

    train = crops_of([(0, 1), (0, 1), (1, 0), (2, 3), (3, 2)])
    val = crops_of([(0, 1), (1, 0), (2, 3), (4, 5), (1, 1)])
    assert parts["pair_crops"].order_by_categories(train, val).tolist() == [1, 0, 0.5, 0.5, 0.5]


def test_no_pairs_are_said(parts):
    with pytest.raises(ValueError, match="take more"):
        parts["pair_crops"].cut_out([])


def test_the_true_order_is_worth_most(parts, scenes):
    merging = parts["merging"]
    cases = [merging.prepare(scene) for scene in scenes]
    best = merging.things_quality(cases, "oracle", scoring="random", seed=0)
    for relation in ("score", "area"):
        assert merging.things_quality(cases, relation, scoring="random", seed=0) < best - 0.03
    likely = merging.things_quality(cases, "score", scoring="visible", seed=0)
    random = merging.things_quality(cases, "score", scoring="random", seed=0)
    assert random < likely < best
    assert best > 0.9


def test_the_truth_of_a_scene(parts):
    merging = parts["merging"]
    scene = next(
        s for s in (generate_scene(OPTIONS, "val", k) for k in range(99))
        if any(o.is_crowd for o in s.objects)
    )  # fmt: skip
    case = merging.prepare(scene)
    truth = case.truth
    ids = {s.id for s in truth.segments}
    assert ids == set(range(1, len(ids) + 1)) == set(np.unique(truth.segment_map).tolist()) - {0}
    assert sum(s.is_crowd for s in truth.segments) == sum(o.is_crowd for o in scene.objects)
    assert len(case.crops) == len(case.labels) == sum(not o.is_crowd for o in scene.objects)
    for thing in scene.objects:
        (segment_id,) = np.unique(truth.segment_map[thing.visible]).tolist()
        segment = next(s for s in truth.segments if s.id == segment_id)
        assert (segment.category, segment.area) == (thing.category, thing.visible.sum())


def test_the_table(script, capsys):
    assert script.main(["--num-train", "4", "--num-val", "6", "--epochs", "1"]) == 1
    out = capsys.readouterr().out
    for name in (
        "RGB crop + both masks", "both masks alone", "smaller on top", "usual order of the",
        "true order", "score: random", "score: visible share",
    ):  # fmt: skip
        assert name in out
    assert "too few pairs to judge" in out
    assert "order to be seen: False" in out


@pytest.mark.parametrize("option", ["--num-train", "--num-val", "--epochs", "--threads"])
def test_numbers_below_1_are_refused(script, option, capsys):
    with pytest.raises(SystemExit):
        script.parse_args([option, "0"])
    assert "at least 1" in capsys.readouterr().err
