from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from make.dataset import (
    CAR,
    CAR_ID,
    CAT,
    CAT_ID,
    CATEGORIES,
    CROWD_ID,
    GRASS,
    GRASS_ID,
    SKY,
    instances_json,
    on_image,
    panoptic_json,
    segment_maps,
    write_tree,
)
from make.errors import refused
from refine.coco_format.layout import open_dataset
from refine.data.coco_panoptic import CocoPanopticDataset, SampleKey
from refine.data.pairs.occlusion_pairs import OcclusionPairs, OrderedPair
from refine.ops.outlines import decode_mask
from refine.options import ImageOptions

SPLIT = "train2017"
PAIRS = OcclusionPairs.from_images({1: [OrderedPair(1, 2, 2)]})  # the cat lies on the car
FILES = ("0001.jpg", "0001.png")
SAME_SIZE = {"train_short_sides_px": [8], "max_long_side_px": 12, "flip_prob": 0.0}


def _dataset(root, *, training=True, augment=True, image_ids=None, seed=0, pairs=None, **options):
    return CocoPanopticDataset(
        open_dataset(root, SPLIT), ImageOptions(**SAME_SIZE | options), training=training,
        augment=augment, seed=seed, image_ids=image_ids, pairs=pairs,
    )  # fmt: skip


@pytest.fixture
def plain(tmp_path):
    return write_tree(tmp_path / "plain", SPLIT)


@pytest.fixture(scope="module")
def outlined(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("outlined"), SPLIT, instances=instances_json())


def test_a_training_sample_without_outlines_holds_what_image_and_map_show(plain):
    sample = _dataset(plain)[0]
    expected = np.asarray(Image.open(plain / SPLIT / "0001.jpg"))
    assert sample.image.dtype == torch.uint8
    assert np.array_equal(sample.image.permute(1, 2, 0), expected)
    assert (sample.image_id, sample.file_name) == (1, "0001.jpg")
    assert sample.original_size == (8, 12)
    assert sample.truth is None
    assert not sample.is_padding
    target = sample.target
    semantic = np.full((8, 12), GRASS)
    semantic[2:6, 1:5] = CAR
    semantic[4:7, 3:8] = CAT
    semantic[0:2, 9:12] = CAR  # crowds keep their category
    assert target.semantic.dtype == torch.uint8
    assert np.array_equal(target.semantic, semantic)
    assert target.labels.tolist() == [CAT, CAR]
    assert target.boxes.tolist() == [[3, 4, 8, 7], [1, 2, 5, 6]]
    assert target.boxes.dtype == torch.float32
    assert np.array_equal(on_image(target.masks[0], (8, 12)), segment_maps()[1] == CAT_ID)
    assert on_image(target.masks[1], (8, 12)).sum() == 12
    second = _dataset(plain, train_short_sides_px=[6])[1].target.semantic.numpy()
    assert [set(row.tolist()) for row in second] == [{SKY}] * 3 + [{255}] * 2 + [{SKY}] * 5


def test_with_outlines_instances_overlap_and_crowds_are_dropped(outlined):
    target = _dataset(outlined)[0].target
    assert target.labels.tolist() == [CAR, CAT]
    assert target.boxes.tolist() == [[1, 2, 5, 6], [3, 4, 8, 7]]
    car, cat = (on_image(mask, (8, 12)) for mask in target.masks)
    assert car.sum() == 16
    assert (car & cat).sum() == 4
    dataset = _dataset(outlined, train_short_sides_px=[10])
    target = dataset[1].target  # of an image without things
    assert (target.boxes.shape, target.boxes.dtype) == ((0, 4), torch.float32)
    assert (target.labels.shape, target.labels.dtype) == ((0,), torch.int64)
    assert target.masks == ()
    target = dataset[2].target  # of one thing
    assert target.boxes.tolist() == [[0, 0, 10, 10]]
    assert on_image(target.masks[0], (10, 10)).all()


@pytest.mark.parametrize("with_outlines", [False, True])
def test_flip_and_resize_move_everything_together(tmp_path, with_outlines):
    content = instances_json()
    content["annotations"][2]["iscrowd"] = 0  # as a thing, with run lengths
    root = write_tree(tmp_path, SPLIT, instances=content if with_outlines else None)
    options = {"train_short_sides_px": [16], "max_long_side_px": 24}
    straight = _dataset(root, **options)[0]
    flipped = _dataset(root, **options, flip_prob=1.0)[0]
    assert straight.image.shape == (3, 16, 24)
    assert torch.equal(flipped.image, straight.image.flip(-1))
    assert torch.equal(flipped.target.semantic, straight.target.semantic.flip(-1))
    mirrored = straight.target.boxes[:, [2, 1, 0, 3]]
    mirrored[:, [0, 2]] = 24 - mirrored[:, [0, 2]]
    assert torch.equal(flipped.target.boxes, mirrored)
    cat = straight.target.labels.tolist().index(CAT)
    assert straight.target.boxes[cat].tolist() == [6, 8, 16, 14]
    for sample in (straight, flipped):
        mask = on_image(sample.target.masks[cat], (16, 24))
        assert np.array_equal(mask, sample.target.semantic.numpy() == CAT)
    if with_outlines:
        assert flipped.target.boxes[2].tolist() == [0, 0, 6, 4]
        assert on_image(flipped.target.masks[2], (16, 24)).sum() == 24


@pytest.mark.parametrize("with_pairs", [False, True])
def test_a_crop_cuts_off_instances_and_their_pairs(plain, outlined, with_pairs):
    pairs = PAIRS if with_pairs else None
    dataset = _dataset(outlined if with_pairs else plain, crop_px=[3, 3], pairs=pairs)
    seen = set()
    for epoch in range(40):
        target = dataset[SampleKey(epoch, 0)].target
        labels = target.labels.tolist()
        assert target.semantic.shape == (3, 3)
        assert len(target.boxes) == len(labels) == len(target.masks)
        for box, mask in zip(target.boxes.tolist(), target.masks, strict=True):
            full = on_image(mask, (3, 3))
            rows, columns = np.flatnonzero(full.any(1)), np.flatnonzero(full.any(0))
            assert box == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        if with_pairs:
            named = target.labels[target.pairs].tolist()
            assert named == ([[CAT, CAR]] if set(labels) == {CAR, CAT} else [])
        seen.add(len(labels))
    assert seen == {0, 1, 2}


def test_a_sample_is_a_function_of_seed_epoch_and_place(outlined):
    options = {"train_short_sides_px": list(range(8, 40)), "max_long_side_px": 64}

    def draw(seed, epoch, place):
        sample = _dataset(outlined, seed=seed, flip_prob=0.5, **options)[SampleKey(epoch, place)]
        return sample.image.numpy().tobytes(), sample.target.boxes.tolist(), sample.target.masks

    assert draw(1, 2, 0) == draw(1, 2, 0)
    different = {draw(s, e, 0)[0] for s in (1, 2) for e in (0, 1, 2)}
    assert len(different) > 3


def test_evaluation_has_the_truth_at_original_size(plain, outlined):
    dataset = _dataset(outlined, training=False, eval_short_side_px=16, max_long_side_px=24)
    sample = dataset[0]
    assert sample.image.shape == (3, 16, 24)
    assert sample.target is None
    truth = sample.truth
    assert truth.segment_map.dtype == np.int32
    found = [(s.id, s.category, s.area, s.is_crowd) for s in truth.segments]
    assert found == [(1, CAT, 15, 0), (2, GRASS, 63, 0), (3, CAR, 12, 0), (4, CAR, 6, 1)]
    ids = np.array([0, CAT_ID, GRASS_ID, CAR_ID, CROWD_ID])
    assert np.array_equal(ids[truth.segment_map], segment_maps()[1])
    # crowds are kept among the instances
    assert truth.instances.boxes.tolist() == [[1, 2, 5, 6], [3, 4, 8, 7], [9, 0, 12, 2]]
    assert truth.instances.labels.tolist() == [CAR, CAT, CAR]
    assert truth.instances.is_crowd.tolist() == [False, False, True]
    assert [on_image(m, (8, 12)).sum() for m in truth.instances.masks] == [16, 15, 6]
    assert dataset[1].truth.instances.boxes.shape == (0, 4)
    assert dataset[1].truth.instances.masks == ()
    assert _dataset(plain, training=False)[0].truth.instances is None


def test_an_outline_without_a_pixel_vanishes_in_training_and_stays_in_evaluation(tmp_path):
    content = instances_json()
    content["annotations"][1]["segmentation"] = [[90, 90, 95, 90, 95, 95]]
    root = write_tree(tmp_path, SPLIT, instances=content)
    assert _dataset(root)[0].target.labels.tolist() == [CAR]
    instances = _dataset(root, training=False)[0].truth.instances
    assert instances.labels.tolist() == [CAR, CAT, CAR]
    assert decode_mask(instances.masks[1]).mask.size == 0


def test_places_of_images(plain):
    dataset = _dataset(plain, training=False)
    assert [dataset[k].is_padding for k in range(5)] == [False, False, False, True, True]
    assert dataset[4].image_id == 2
    assert dataset.is_wide.tolist() == [True, False, True]
    chosen = _dataset(plain, image_ids=[3, 1])
    assert len(chosen) == 2
    assert [chosen[k].image_id for k in range(2)] == [3, 1]
    assert chosen.is_wide.tolist() == [True, True]


def test_what_cannot_be_a_dataset_is_refused(plain, tmp_path):
    for image_ids, reason in (([1, 77], "image id 77"), ([], "each once"), ([1, 1], "each once")):
        with refused(reason):
            _dataset(plain, image_ids=image_ids)
    categories, outlines = panoptic_json(), instances_json()
    categories["categories"] += [
        {"id": 1000 + k, "name": f"c{k}", "isthing": 0} for k in range(256 - len(CATEGORIES))
    ]
    with refused("panoptic_train2017.json: more than 255 categories"):
        _dataset(write_tree(tmp_path / "many", SPLIT, panoptic=categories))
    outlines["annotations"][2]["segmentation"] = {"size": [4, 4], "counts": [3, 13]}
    with refused("instances_train2017.json: annotations[2]", "[4, 4]", "[8, 12]"):
        _dataset(write_tree(tmp_path / "small", SPLIT, instances=outlines))
    with pytest.raises(ValueError, match="instance annotations"):
        _dataset(plain, pairs=PAIRS)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-60])


def _shrink(path):
    Image.open(path).crop((0, 0, 11, 8)).save(path)


def _blacken(path):
    Image.new("RGB", (12, 8)).save(path)


@pytest.mark.parametrize(
    ("damage", "jpeg", "png"),
    [
        (Path.unlink, "no file '0001.jpg'", "no file '0001.png'"),
        (_truncate, "0001.jpg: damaged image", "0001.png: damaged PNG"),
        (_shrink, *(f"{name}: 11 x 8 pixels, but " for name in FILES)),
        (_blacken, None, "0001.png: segment id 301 of the JSON has no pixel"),
    ],
)
def test_bad_files_are_named(plain, damage, jpeg, png):
    folders = (plain / "annotations" / f"panoptic_{SPLIT}", plain / SPLIT)
    for folder, name, expected in zip(folders, FILES[::-1], (png, jpeg), strict=True):
        if expected:
            whole = (folder / name).read_bytes()
            damage(folder / name)
            with refused(plain, expected):
                _dataset(plain)[0]
            (folder / name).write_bytes(whole)


@pytest.mark.parametrize("flip_prob", [0.0, 1.0])
def test_pairs_are_places_among_the_instances(outlined, tmp_path, flip_prob):
    dataset = _dataset(outlined, flip_prob=flip_prob, pairs=PAIRS)
    target = dataset[0].target
    assert target.pairs.dtype == torch.int64
    assert target.pairs.tolist() == [[1, 0]]
    assert target.labels[target.pairs[0]].tolist() == [CAT, CAR]
    assert dataset[1].target.pairs.shape == dataset[2].target.pairs.shape == (0, 2)
    assert _dataset(outlined)[0].target.pairs is None
    content = instances_json()  # crowds are not counted among the places
    content["annotations"] = [content["annotations"][k] for k in (2, 0, 1, 3)]
    root = write_tree(tmp_path, SPLIT, instances=content)
    assert _dataset(root, pairs=PAIRS)[0].target.pairs.tolist() == [[1, 0]]


def test_targets_without_augmentation_have_the_geometry_of_evaluation(outlined):
    options = {"train_short_sides_px": [8], "flip_prob": 1.0, "eval_short_side_px": 16}
    options |= {"max_long_side_px": 24, "crop_px": [4, 4]}
    plain = _dataset(outlined, augment=False, pairs=PAIRS, **options)[0]
    evaluated = _dataset(outlined, training=False, **options)[0]
    assert torch.equal(plain.image, evaluated.image)
    assert plain.truth is None
    assert plain.target.boxes.tolist() == [[2, 4, 10, 12], [6, 8, 16, 14]]
    assert plain.target.pairs.tolist() == [[1, 0]]
    padding = _dataset(outlined, augment=False, pairs=PAIRS, **options)[3]
    assert padding.is_padding
    assert padding.target.boxes.tolist() == plain.target.boxes.tolist()
