"""Ground truth sent through the representation of a network's output and merged again.

What these lose, no network of this kind can reach.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from make.scenes import pq_of, semantic_of
from refine.coco_format.layout import open_dataset
from refine.data.coco_panoptic import CocoPanopticDataset
from refine.fusion.merge import Instance, merge_segments
from refine.fusion.semantic import semantic_map
from refine.ops.mask_targets import roi_mask_targets, sum_areas
from refine.ops.masks import paste_masks
from refine.ops.outlines import encode_mask
from refine.options import ImageOptions, MergeOptions
from refine.types import IGNORE_INDEX, MaskCrop

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def val_images(coco_root):
    """The categories and the truth of every image."""
    files = open_dataset(coco_root, "val2017")
    dataset = CocoPanopticDataset(files, ImageOptions(), training=False)
    return dataset.categories, [dataset.read_truth(k)[2] for k in range(len(dataset))]


def visible_instances(truth):
    """The things in view, the smaller on top."""
    things = [s for s in truth.segments if s.is_thing and not s.is_crowd]
    instances = []
    for k, segment in enumerate(sorted(things, key=lambda s: s.area)):
        mask = truth.segment_map == segment.id
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        y, x = int(rows[0]), int(columns[0])
        crop = MaskCrop(y, x, mask[y : rows[-1] + 1, x : columns[-1] + 1])
        instances.append(Instance(crop, segment.category, 1 - k / 1000))
    return instances


def through_28_cells(instances, size):
    """The masks as a perfect mask head would give them."""
    slices = [i.crop.slices for i in instances]
    boxes = np.array([(x.start, y.start, x.stop, y.stop) for y, x in slices], np.float32)
    boxes = boxes.reshape(-1, 4)
    areas = sum_areas([encode_mask(i.crop) for i in instances], torch.device("cpu"))
    soft = roi_mask_targets(areas, torch.arange(len(boxes)), torch.from_numpy(boxes), 28)
    crops = paste_masks(soft.numpy(), boxes, size, threshold=0.5)
    return [Instance(c, i.label, i.score) for c, i in zip(crops, instances, strict=True)]


def through_stride_4(labels, num_categories, *, short_side):
    """One-hot at the centres of stride-4 cells of the resized image, and back."""
    height, width = labels.shape
    scale = short_side / min(height, width) if short_side else 1
    image_size = (round(height * scale), round(width * scale))
    cells = [-(-n // 32) * 8 for n in image_size]
    centres = [
        ((np.arange(c) + 0.5) * 4 * n / m).astype(int).clip(max=n - 1)
        for c, n, m in zip(cells, labels.shape, image_size, strict=True)
    ]
    sampled = torch.from_numpy(labels[np.ix_(*centres)]).long()
    # void pixels say nothing
    one_hot = F.one_hot(sampled, IGNORE_INDEX + 1)[..., :num_categories].permute(2, 0, 1).float()
    return semantic_map(one_hot, image_size, labels.shape)


def compute_pq(val_images, *, soft_masks=False, short_side=None):
    categories, truths = val_images
    merged = []
    for truth in truths:
        instances, labels = visible_instances(truth), semantic_of(truth)
        if soft_masks:
            instances = through_28_cells(instances, labels.shape)
        if short_side is not None:
            labels = through_stride_4(labels, len(categories), short_side=short_side)
        result = merge_segments(
            instances,
            labels,
            num_things=categories.num_things,
            options=MergeOptions(score_thresh=0),
            stuff_area_limit_px=0,
        ).paint()
        merged.append((result, truth))
    return pq_of(merged, categories)


def test_full_resolution_ground_truth_scores_exactly_one(val_images):
    assert compute_pq(val_images) == 1.0


def test_soft_masks_of_28_cells(val_images):
    assert compute_pq(val_images, soft_masks=True) >= 0.985


def test_soft_masks_and_semantics_at_stride_4(val_images):
    assert compute_pq(val_images, soft_masks=True, short_side=800) >= 0.96
