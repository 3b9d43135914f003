"""Ground truth sent through the representation of a network's output and merged again.

What these lose, no network of this kind can reach.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from refine.coco_format.annotations import load_panoptic_json
from refine.coco_format.png import decode_segment_png
from refine.fusion.merge import Instance, merge_segments
from refine.fusion.semantic import semantic_map
from refine.metrics.functional import PanopticStats, average_quality, match_segments
from refine.ops.masks import paste_masks, roi_mask_targets
from refine.options import MergeOptions
from refine.types import IGNORE_INDEX, GroundTruth, MaskCrop

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def val_images(coco_root):
    """The categories and one ``(segment map, segments)`` an image."""
    folder = coco_root / "annotations"
    annotations = load_panoptic_json(folder / "panoptic_val2017.json")
    maps = [
        decode_segment_png((folder / "panoptic_val2017" / name).read_bytes(), source=name)
        for name in annotations.file_names
    ]
    return annotations.categories, [(m, annotations.segments(k)) for k, m in enumerate(maps)]


def visible_instances(segment_map, segments):
    """The things in view, the smaller on top."""
    things = sorted((s for s in segments if s.is_thing and not s.is_crowd), key=lambda s: s.area)
    instances = []
    for k, segment in enumerate(things):
        rows, columns = (np.flatnonzero((segment_map == segment.id).any(axis)) for axis in (1, 0))
        y, x = int(rows[0]), int(columns[0])
        mask = segment_map[y : rows[-1] + 1, x : columns[-1] + 1] == segment.id
        instances.append(Instance(MaskCrop(y, x, mask), segment.category, 1 - k / 1000))
    return instances


def tight_box(crop):
    rows, columns = crop.slices
    return columns.start, rows.start, columns.stop, rows.stop


def through_28_cells(instances, size):
    """The masks as a perfect mask head would give them."""
    boxes = np.array([tight_box(i.crop) for i in instances], np.float32).reshape(-1, 4)
    soft = roi_mask_targets([i.crop for i in instances], boxes, 28)
    crops = paste_masks(soft, boxes, size, threshold=0.5)
    return [Instance(c, i.label, i.score) for c, i in zip(crops, instances, strict=True)]


def semantic_labels(segment_map, segments):
    labels = np.full(segment_map.shape, IGNORE_INDEX, np.uint8)
    for segment in segments:
        labels[segment_map == segment.id] = segment.category
    return labels


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
    categories, images = val_images
    total = PanopticStats.zeros(len(categories))
    for segment_map, segments in images:
        instances = visible_instances(segment_map, segments)
        labels = semantic_labels(segment_map, segments)
        if soft_masks:
            instances = through_28_cells(instances, segment_map.shape)
        if short_side is not None:
            labels = through_stride_4(labels, len(categories), short_side=short_side)
        merged = merge_segments(
            instances,
            labels,
            num_things=categories.num_things,
            options=MergeOptions(score_thresh=0),
            stuff_area_limit_px=0,
        )
        total += match_segments(
            merged,
            GroundTruth(segment_map=segment_map, segments=segments),
            num_categories=len(categories),
        )
    return average_quality(total, categories.num_things)["all"].pq


def test_full_resolution_ground_truth_scores_exactly_one(val_images):
    assert compute_pq(val_images) == 1.0


def test_soft_masks_of_28_cells(val_images):
    assert compute_pq(val_images, soft_masks=True) >= 0.985


def test_soft_masks_and_semantics_at_stride_4(val_images):
    assert compute_pq(val_images, soft_masks=True, short_side=800) >= 0.96
