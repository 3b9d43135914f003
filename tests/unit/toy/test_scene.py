from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from refine.options import ToyOptions
from refine.toy.objects import ID_OF, NEVER_ON, TOY_CATEGORIES, VOID
from refine.toy.scene import generate_scene
from refine.toy.statistics import count_scene, report_shares

SMALL = ToyOptions(height_px=64, width_px=96)
MANY = 160
FULL = ToyOptions()


@cache  # tests share them
def scenes(count: int, split: str = "val"):
    return tuple(generate_scene(SMALL, split, index) for index in range(count))


def tint_of(pixels: np.ndarray) -> np.ndarray:
    """The colour without its brightness, which shading and contour change."""
    color = np.median(pixels, axis=0)
    return color / color.sum()


def test_a_scene_is_a_function_of_seed_split_and_index():
    first = generate_scene(FULL, "val", 7)
    assert first.image.shape == (128, 192, 3)
    assert first.image.dtype == np.uint8
    for options in (FULL, replace(FULL, num_train=1, num_val=900)):
        again = generate_scene(options, "val", 7)
        np.testing.assert_array_equal(first.image, again.image)
        np.testing.assert_array_equal(first.background, again.background)
        assert [o.category for o in first.objects] == [o.category for o in again.objects]
    image = generate_scene(SMALL, "val", 0).image
    for seed, split, index in ((0, "train", 0), (0, "val", 1), (1, "val", 0)):
        assert (generate_scene(replace(SMALL, seed=seed), split, index).image != image).any()
    for split, index in (("test", 0), ("val", -1)):
        with pytest.raises(ValueError, match="expected one of"):
            generate_scene(SMALL, split, index)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (5, 7), (200, 130)])
def test_any_size_gives_a_scene(size):
    options = ToyOptions(height_px=size[0], width_px=size[1])
    for index in range(3):
        scene = generate_scene(options, "train", index)
        assert scene.image.shape == (*size, 3)
        assert all(thing.visible.any() for thing in scene.objects)


def test_visible_parts_follow_from_masks_and_depth():
    for scene in scenes(MANY)[:40]:
        assert [thing.depth for thing in scene.objects] == list(range(len(scene.objects)))
        owner = np.full(scene.background.shape, -1)
        for thing in scene.objects:
            owner[thing.mask] = thing.depth
        for thing in scene.objects:
            np.testing.assert_array_equal(thing.visible, owner == thing.depth)
            assert thing.visible.sum() >= 0.35 * thing.mask.sum()
        np.testing.assert_array_equal(scene.stuff, np.where(owner < 0, scene.background, VOID))


def test_front_objects_are_painted_over_those_behind():
    """Each overlap has the tint of the thing in front."""
    right = []
    for scene in scenes(MANY):
        for far, near in pairwise(scene.objects):
            joint = far.mask & near.visible
            alone = near.visible & ~far.mask
            if far.category == near.category or min(joint.sum(), alone.sum()) < 40:
                continue
            tint = tint_of(scene.image[joint])
            own = tint_of(scene.image[alone])
            other = tint_of(scene.image[far.visible])
            right.append(np.abs(tint - own).sum() < np.abs(tint - other).sum())
    assert len(right) > 20
    assert np.mean(right) > 0.95  # contours can tint a small part


def test_look_alikes_differ_only_by_what_stands_on_them():
    told, middles, colors = 0, {"beach": [], "desert": []}, {"beach": [], "desert": []}
    for scene in scenes(MANY):
        for ground, found in middles.items():
            region = scene.background == ID_OF[ground]
            if not region.any():
                continue
            found.append(np.argwhere(region).mean(0))
            colors[ground].append(scene.image[scene.stuff == ID_OF[ground]].mean(0))
            never = {ID_OF[name] for name, where in NEVER_ON.items() if where == ground}
            tellers = {ID_OF[name] for name, where in NEVER_ON.items() if where != ground}
            stand = [t for t in scene.objects if region[t.mask].mean() > 0.05]
            assert not never & {thing.category for thing in stand}
            told += bool(tellers & {thing.category for thing in stand})
    total = sum(map(len, middles.values()))
    assert total > 70
    assert told > 0.95 * total
    beach, desert = (np.array(middles[ground]) for ground in middles)
    # standard errors are about 2.5 pixels of 64 by 96, and one grey level
    np.testing.assert_allclose(beach.mean(0), desert.mean(0), atol=7)
    beach, desert = (np.array(colors[ground]) for ground in colors)
    np.testing.assert_allclose(beach.mean(0), desert.mean(0), atol=3)


def test_statistics_are_those_that_were_asked_for():
    counts = sum(map(count_scene, scenes(MANY)), Counter())
    shares = report_shares(counts)
    known = shares["order known from the categories"]
    assert counts["pairs_right"] == counts["pairs_known"] > 20  # without an exception
    expected = {
        "with an overlap of .2 or more": (0.6, 1), "without things": (0.02, 0.12),
        "with a crowd": (0.01, 0.12), "smaller on top": (0.45, 0.55), "lower on top": (0.45, 0.55),
        "order known from the categories": (0.1, 0.4),
        "right by categories or a coin": (0.55, 0.7), "look-alike stuff told by a thing": (0.9, 1),
        "void pixels": (0.002, 0.05),
    }  # fmt: skip
    assert counts["scenes"] == MANY
    assert shares.keys() == expected.keys()
    assert all(low <= shares[name] <= high for name, (low, high) in expected.items()), shares
    assert shares["right by categories or a coin"] == pytest.approx(0.5 + known / 2)
    assert min(counts[f"segments/{c.name}"] for c in TOY_CATEGORIES) >= 15
    assert np.isnan(list(report_shares({}).values())).all()
