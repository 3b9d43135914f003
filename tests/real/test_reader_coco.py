import numpy as np
import pytest

from refine.coco_format.layout import open_dataset
from refine.data.coco_panoptic import CocoPanopticDataset
from refine.ops.outlines import decode_mask
from refine.options import ImageOptions
from refine.types import IGNORE_INDEX

pytestmark = pytest.mark.real

SPLITS = ("train2017", "val2017")  # only the first has an instances JSON
WITHOUT_THINGS = {250, 508}


@pytest.fixture(scope="module", params=SPLITS)
def files(request, coco_root):
    return open_dataset(coco_root, request.param)


def _dataset(files, *, training):
    return CocoPanopticDataset(files, ImageOptions(train_short_sides_px=[800]), training=training)


def test_every_training_sample_is_consistent_and_light(files):
    dataset = _dataset(files, training=True)
    assert len(dataset) == (100 if files.instances is not None else 42)
    dense, coded, pixels = 0, 0, 0
    without_things = set()
    for sample in (dataset[k] for k in range(len(dataset))):
        target = sample.target
        height, width = sample.image.shape[1:]
        assert target.semantic.shape == (height, width)
        assert len(target.boxes) == len(target.labels) == len(target.masks)
        if len(target.boxes) == 0:
            without_things.add(sample.image_id)
        _check_instances(target, (height, width), dataset.categories.num_things)
        dense += sample.image.nbytes + target.semantic.nbytes
        dense += target.boxes.nbytes + target.labels.nbytes
        coded += sum(len(mask.counts) for mask in target.masks)
        pixels += height * width
    assert without_things == (WITHOUT_THINGS if files.instances is not None else set())
    assert dense / pixels == pytest.approx(4.0, abs=0.001)
    assert (dense + coded) / pixels < 4.02


def _check_instances(target, size, num_things):
    semantic = target.semantic.numpy()
    assert set(np.unique(semantic).tolist()) <= {*range(133), IGNORE_INDEX}
    for box, label, coded in zip(
        target.boxes.tolist(), target.labels.tolist(), target.masks, strict=True
    ):
        assert 0 <= label < num_things
        assert 0 <= box[0] < box[2] <= size[1]
        assert 0 <= box[1] < box[3] <= size[0]
        assert box == [coded.x, coded.y, coded.x + coded.width, coded.y + coded.height]
        assert decode_mask(coded).mask.any()


def test_every_evaluation_sample_agrees_with_its_json(files):
    dataset = _dataset(files, training=False)
    for sample in (dataset[k] for k in range(len(dataset))):
        truth = sample.truth
        assert truth.segment_map.shape == sample.original_size
        areas = np.bincount(truth.segment_map.ravel(), minlength=len(truth.segments) + 1)
        assert [s.id for s in truth.segments] == list(range(1, len(areas)))
        assert [s.area for s in truth.segments] == areas[1:].tolist()
        assert max(sample.image.shape[1:]) <= 1333
        assert (truth.instances is None) == (files.instances is None)


def test_outlines_are_those_of_pycocotools(coco_root):
    coco = pytest.importorskip("pycocotools.coco").COCO(
        coco_root / "annotations" / "instances_train2017.json"
    )
    dataset = _dataset(open_dataset(coco_root, "train2017"), training=False)
    count = 0
    for sample in (dataset[k] for k in range(len(dataset))):
        instances = sample.truth.instances
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=sample.image_id))
        assert len(annotations) == len(instances.masks)
        for annotation, coded in zip(annotations, instances.masks, strict=True):
            crop = decode_mask(coded)
            full = np.zeros(sample.original_size, np.uint8)
            full[crop.slices] = crop.mask
            assert np.array_equal(full, coco.annToMask(annotation))
            count += 1
    assert count == 747


def test_visible_regions_lie_within_outlines(coco_root):
    """Image, map and outlines are moved alike: a car's pixels on the map lie in some car."""
    dataset = _dataset(open_dataset(coco_root, "train2017"), training=True)
    inside = total = 0
    for sample in (dataset[k] for k in range(0, len(dataset), 5)):
        target = sample.target
        semantic = target.semantic.numpy()
        for label in target.labels.unique().tolist():
            union = np.zeros(semantic.shape, bool)
            for mask_label, coded in zip(target.labels.tolist(), target.masks, strict=True):
                if mask_label == label:
                    crop = decode_mask(coded)
                    union[crop.slices] |= crop.mask
            inside += (union & (semantic == label)).sum()
            total += union.sum()
    assert inside / total > 0.85
