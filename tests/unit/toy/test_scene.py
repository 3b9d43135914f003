from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from refine.options import ToyOptions
from refine.toy.objects import (
    ID_OF,
    NEVER_ON,
    OWN_FLAP_ON,
    STANDS_ON,
    THINGS,
    TOY_CATEGORIES,
    VOID,
)
from refine.toy.scene import generate_scene
from refine.toy.shapes import mask_of
from refine.toy.statistics import count_scene, report_shares

SMALL = ToyOptions(height_px=64, width_px=96)
MANY = 160
FULL = ToyOptions()


@cache  # tests share them
def scenes(count: int, version: int = 1):
    options = replace(SMALL, version=version)
    return tuple(generate_scene(options, "val", index) for index in range(count))


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
        "with an overlap of .2 or more": (0.6, 1),
        "without things": (0.02, 0.12),
        "with a crowd": (0.01, 0.12),
        "smaller on top": (0.45, 0.55),
        "lower on top": (0.45, 0.55),
        "order known from the categories": (0.1, 0.4),
        "right by categories or a coin": (0.55, 0.7),
        "look-alike stuff told by a thing": (0.9, 1),
        "things with a flap": (0, 0),
        "flaps that are part of their thing": (np.nan, np.nan),
        "void pixels": (0.002, 0.05),
    }
    assert counts["scenes"] == MANY
    assert shares.keys() == expected.keys()
    assert np.isnan(shares.pop("flaps that are part of their thing"))
    assert all(low <= shares[k] <= high for k, (low, high) in expected.items() if k in shares)
    assert shares["right by categories or a coin"] == pytest.approx(0.5 + known / 2)
    assert min(counts[f"segments/{c.name}"] for c in TOY_CATEGORIES) >= 15
    assert np.isnan(list(report_shares({}).values())).all()


# --- version 2


def test_the_nearest_thing_tells_the_sand():
    """Each pixel of sand, against a search over all pixels of all things."""
    seen = Counter()
    for scene in scenes(60, 2):
        things = [thing for thing in scene.objects if not thing.is_crowd]
        sand = np.argwhere(np.isin(scene.background, [ID_OF["beach"], ID_OF["desert"]]))
        assert bool(len(sand)) == bool(things)
        for y, x in sand[::7]:
            squares = [((np.argwhere(t.mask) - (y, x)) ** 2).sum(1).min() for t in things]
            nearest = [t for t, s in zip(things, squares, strict=True) if s == min(squares)]
            assert min(squares) <= (13 / 2) ** 2
            category = TOY_CATEGORIES[scene.background[y, x]].name
            assert category in {STANDS_ON[thing.name] for thing in nearest}
            seen[category] += 1
    assert min(seen.values()) > 0.3 * seen.total()
    # medians, for flaps and contours are painted in any colour
    beach, desert = (
        np.mean(
            [np.median(s.image[s.stuff == k], axis=0) for s in scenes(60, 2) if k in s.stuff], 0
        )
        for k in (ID_OF["beach"], ID_OF["desert"])
    )
    np.testing.assert_allclose(beach, desert, atol=4)


def test_no_hue_tells_a_category():
    """The tints of the categories differ less than the things of one category do."""
    tints = {name: [] for name in THINGS}
    for scene in scenes(MANY, 2):
        for thing in scene.objects:
            tints[thing.name].append(tint_of(scene.image[thing.visible]))
    means = np.array([np.mean(some, axis=0) for some in tints.values()])
    within = np.mean([np.std(some, axis=0) for some in tints.values()])
    assert means.std(0).max() < 0.35 * within


def test_hues_of_categories_change_colours_alone():
    """And then the tints of one category are closer together than those of all things."""
    tints = {name: [] for name in THINGS}
    for index, plain in enumerate(scenes(MANY, 2)):
        scene = generate_scene(replace(SMALL, version=2, hues="category"), "val", index)
        np.testing.assert_array_equal(scene.stuff, plain.stuff)
        for thing, same in zip(scene.objects, plain.objects, strict=True):
            np.testing.assert_array_equal(thing.visible, same.visible)
            if thing.visible.sum() > 40 and not thing.is_crowd:
                tints[thing.name].append(tint_of(scene.image[thing.visible]))
    within = np.mean([np.std(of_name, axis=0) for of_name in tints.values()])
    assert within < 0.3 * np.std(np.concatenate(list(tints.values())), axis=0).mean()


def test_the_ground_tells_whose_a_flap_is():
    """In scenes with one ground beside the sand, whose flaps all have the same owner."""
    seen = Counter()
    for scene in scenes(2 * MANY, 2):
        grounds = {TOY_CATEGORIES[k].name for k in np.unique(scene.background) if k != VOID}
        grounds -= {*STANDS_ON.values()}
        nearer = np.zeros(scene.stuff.shape, bool)
        for thing in reversed(scene.objects):
            if thing.flap is None or len(grounds) != 1:
                nearer |= thing.mask
                continue
            (ground,) = grounds
            shape, whole = (
                mask_of(some, scene.stuff.shape)
                for some in (thing.outlines[:1], [thing.outlines[0], thing.flap])
            )
            is_own = ground in OWN_FLAP_ON
            np.testing.assert_array_equal(thing.mask, whole if is_own else shape)
            if not is_own:
                here = scene.stuff[whole & ~shape & ~nearer]
                np.testing.assert_array_equal(here, ID_OF[STANDS_ON[thing.name]])
            nearer |= whole
            seen[ground] += 1
    assert seen.keys() == {"sky", "water", "meadow"}
    assert min(seen.values()) > 10


def test_scenes_of_version_2_keep_the_promises_of_the_first():
    counts = sum(map(count_scene, scenes(MANY, 2)), Counter())
    shares = report_shares(counts)
    assert 0.45 <= shares["smaller on top"] <= 0.55
    assert 0.45 <= shares["lower on top"] <= 0.55
    assert 0.5 <= shares["right by categories or a coin"] <= 0.7
    assert shares["look-alike stuff told by a thing"] > 0.95
    assert 0.3 < shares["things with a flap"] < 0.7
    assert 0.4 < shares["flaps that are part of their thing"] < 0.8
    assert min(counts[f"segments/{c.name}"] for c in TOY_CATEGORIES) >= 15
    for scene in scenes(MANY, 2):
        assert all(thing.visible.any() for thing in scene.objects)
        owned = sum(thing.visible.astype(int) for thing in scene.objects)
        assert np.max(owned, initial=0) <= 1
        assert ((scene.stuff == VOID) | (owned == 0)).all()
