"""COCO's own pairs: how many there are, and that the smaller mask is nearly always on top."""

import numpy as np
import pytest

from oracles import occlusion_pairs as oracle
from refine.coco_format.layout import open_dataset
from refine.data.coco_panoptic import CocoPanopticDataset
from refine.data.pairs.pair_building import build_pairs
from refine.data.pairs.pair_statistics import outline_areas
from refine.data.rows import original_mask
from refine.errors import RefineError
from refine.options import ImageOptions

pytestmark = pytest.mark.real
SPLIT = "train2017"


@pytest.fixture(scope="module")
def files(coco_root):
    return open_dataset(coco_root, SPLIT)


@pytest.fixture(scope="module")
def pairs(files):
    return build_pairs(files, overlap_thresh=0.2)


def test_the_number_of_pairs(pairs):
    assert len(pairs) == 147
    assert len(np.unique(pairs.image_ids)) == 41
    assert len(pairs.of_image(196)) == 56


def test_the_smaller_is_on_top_but_once(files, pairs):
    areas = outline_areas(files, pairs)
    larger = pairs.image_ids[areas[:, 0] >= areas[:, 1]]
    assert larger.tolist() == [257]


def test_pairs_of_any_overlap(files):
    pairs = build_pairs(files, overlap_thresh=0.0)
    areas = outline_areas(files, pairs)
    assert len(pairs) >= 455
    assert (areas[:, 0] < areas[:, 1]).mean() >= 0.99


def test_pairs_equal_the_oracle(files, pairs):
    """On the images with the smallest maps that have pairs."""
    dataset = CocoPanopticDataset(files, ImageOptions(), training=False)
    with_pairs = set(pairs.image_ids.tolist())
    rows = [k for k, i in enumerate(dataset.image_ids) if i in with_pairs]
    few = sorted(rows, key=lambda k: len(files.instances.of_image(dataset.image_ids[k])))[:2]
    for row in few:
        image_id, _, truth = dataset.read_truth(row)
        size = truth.segment_map.shape
        instances = []
        for a in files.instances.of_image(image_id):
            crop, mask = original_mask(a.outline, size), np.zeros(size, bool)
            mask[crop.slices] = crop.mask
            instances.append((a.id, a.category, a.is_crowd, mask))
        segments = [(s.id, s.category, s.is_thing, s.is_crowd) for s in truth.segments]
        expected = oracle.find_pairs(instances, segments, truth.segment_map, 0.2)
        found = pairs.triples[pairs.image_ids == image_id].tolist()
        assert {(i, j): top for i, j, top in found} == expected


def test_every_pair_reaches_a_training_target(files, pairs):
    dataset = CocoPanopticDataset(
        files, ImageOptions(), training=True, augment=False, pairs=pairs,
        image_ids=np.unique(pairs.image_ids).tolist(),
    )  # fmt: skip
    assert sum(len(dataset[k].target.pairs) for k in range(len(dataset))) == len(pairs)


def test_a_split_without_instances_is_one_line(coco_root):
    with pytest.raises(RefineError, match="no instances JSON"):
        build_pairs(open_dataset(coco_root, "val2017"), overlap_thresh=0.2)
