"""Real full outlines with scores drawn at random: what the relations that need no head restore."""

import numpy as np
import pytest

from make.scenes import pq_of, semantic_of
from refine.coco_format.layout import open_dataset
from refine.data.coco_panoptic import CocoPanopticDataset
from refine.fusion.merge import Instance, merge_segments
from refine.fusion.overlaps import pair_overlaps
from refine.fusion.relations import relate
from refine.ops.outlines import decode_mask
from refine.options import ImageOptions, MergeOptions, RelationsOptions

pytestmark = pytest.mark.real
NUM_IMAGES = 40


@pytest.fixture(scope="module")
def scenes(coco_root):
    """The categories, and truth and instances by descending score per image."""
    files = open_dataset(coco_root, "train2017")
    dataset = CocoPanopticDataset(files, ImageOptions(), training=False)
    rng = np.random.default_rng(0)
    found = []
    for k in range(NUM_IMAGES):
        truth = dataset[k].truth
        chosen = rng.permutation(np.flatnonzero(~truth.instances.is_crowd)).tolist()
        instances = [
            Instance(decode_mask(truth.instances.masks[i]), int(truth.instances.labels[i]), score)
            for i, score in zip(chosen, np.linspace(1, 0.5, len(chosen)).tolist(), strict=True)
        ]
        found.append((truth, instances))
    return files.annotations.categories, found


def compute_pq(scenes, kind, order="score"):
    categories, images = scenes
    options, merged = RelationsOptions(kind=kind, overlap_thresh=0), []
    for truth, instances in images:
        overlaps = pair_overlaps([i.crop for i in instances])
        result = merge_segments(
            instances,
            semantic_of(truth),
            num_things=categories.num_things,
            options=MergeOptions(order=order),
            stuff_area_limit_px=0,
            relations=relate(instances, overlaps, options, raw=None, truth=truth),
        ).paint()
        merged.append((result, truth))
    return pq_of(merged, categories)


@pytest.mark.parametrize("order", ["score", "topological"])
def test_the_true_order_restores_the_panoptic_map(scenes, order):
    # what is missing: instances of which less than half is in view, left out by their low score
    assert compute_pq(scenes, "oracle", order) >= 0.995


def test_smaller_over_larger_nearly_does(scenes):
    assert 0.99 <= compute_pq(scenes, "area") <= compute_pq(scenes, "oracle")


def test_random_scores_do_not(scenes):
    assert compute_pq(scenes, "score") < 0.97
