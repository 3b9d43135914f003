"""Which of two overlapping instances lies on top, as the annotations tell it.

An instances JSON holds full outlines, which overlap; the panoptic map shows who is in front. Only
together do they say what an occlusion head learns (Lazarow et al. 2020; algorithm: REFINE, section
"Soft Occlusion Estimation").
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from refine.coco_format.instances import InstanceAnnotations
from refine.coco_format.segment_runs import SegmentRuns
from refine.data.rows import ImageRow, original_mask
from refine.fusion.overlaps import pair_overlaps, shared_window
from refine.fusion.true_order import lead, match_outlines


class OrderedPair(NamedTuple):
    """Ids of two annotations of an image, in the order of the file, and of the one on top."""

    first: int
    second: int
    top: int


def find_pairs(
    row: ImageRow, read_map: Callable[[], SegmentRuns], overlap_thresh: float
) -> list[OrderedPair]:
    """Order the overlapping instances of one image, in the order of the annotations.

    1. Crowds, and annotations that cover no pixel, are left out.
    2. Two instances are a pair if the pixels that both outlines cover are at least
       ``overlap_thresh`` of either outline (and at least one).
    3. Thing segments of the map that are no crowd are matched with outlines of their category, the
       highest mask IoU first, each once. An instance without a segment has no order: that it cannot
       be seen may mean that it is hidden, or that the map leaves it out.
    4. Of the pixels that both outlines cover, void has no say; of the others, the instance whose
       segment owns more is on top. The pair is discarded if a third segment (a thing, a crowd or
       stuff) owns more than either, if both own equally many, or if all is void.

    ``overlap_thresh`` is rho, in [0, 1]; ``read_map`` is called only if there are pairs to order.
    """
    outlined = [
        (annotation, crop)
        for annotation in row.instances or ()
        if not annotation.is_crowd
        and (crop := original_mask(annotation.outline, row.size)) is not None
    ]
    crops = [crop for _, crop in outlined]
    overlaps = pair_overlaps(crops)
    pairs = overlaps.pairs[(overlaps.shares >= overlap_thresh).any(axis=1)]
    if not len(pairs):
        return []
    runs = read_map()
    places = [k for k, s in enumerate(row.segments, start=1) if s.is_thing and not s.is_crowd]
    matches = match_outlines(
        runs.find_crops(places),
        [row.segments[place - 1].category for place in places],
        outlines=crops,
        outline_categories=[annotation.category for annotation, _ in outlined],
    )
    place_of = {outline: places[part] for part, outline in matches.items()}
    segment_map = runs.paint(np.arange(len(row.segments) + 1))
    found = []
    for i, j in pairs.tolist():
        if i in place_of and j in place_of:
            rows, columns, both = shared_window(crops[i], crops[j])
            margin = lead(segment_map[rows, columns][both], place_of[i], place_of[j])
            if not np.isnan(margin):
                first, second = outlined[i][0].id, outlined[j][0].id
                found.append(OrderedPair(first, second, second if margin < 0 else first))
    return found


@dataclass(frozen=True, slots=True, eq=False)
class OcclusionPairs:
    """The ordered pairs of a split, as columns.

    Attributes:
        image_ids: ``[K]`` int64, ascending: the image of each pair.
        triples: ``[K, 3]`` int64 annotation ids, the :class:`OrderedPair` of each row.
    """

    image_ids: np.ndarray
    triples: np.ndarray

    @classmethod
    def from_images(cls, images: Mapping[int, Sequence[OrderedPair]]) -> "OcclusionPairs":
        """The pairs of some images, by image id; images may have none."""
        rows = [(image_id, *pair) for image_id in sorted(images) for pair in images[image_id]]
        table = np.array(rows, dtype=np.int64).reshape(-1, 4)
        return cls(table[:, 0].copy(), table[:, 1:].copy())

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def ordered(self) -> np.ndarray:
        """``[K, 2]`` int64 annotation ids: the first lies on top of the second."""
        first, second, top = self.triples.T
        return np.stack([top, np.where(top == first, second, first)], axis=1)

    def of_image(self, image_id: int) -> np.ndarray:
        """``[k, 2]`` int64 annotation ids of one image: the first lies on top of the second."""
        first, last = np.searchsorted(self.image_ids, [image_id, image_id + 1])
        return OcclusionPairs(self.image_ids[first:last], self.triples[first:last]).ordered

    def of_images(self, image_ids: Collection[int]) -> "OcclusionPairs":
        """The pairs of these images only."""
        kept = np.isin(self.image_ids, np.array(list(image_ids), dtype=np.int64))
        return OcclusionPairs(self.image_ids[kept], self.triples[kept])

    def of_instances(self, instances: InstanceAnnotations) -> "OcclusionPairs":
        """The pairs of instances that have a category."""
        kept = np.isin(self.triples, instances.ids[instances.categories >= 0]).all(axis=1)
        return OcclusionPairs(self.image_ids[kept], self.triples[kept])

    def count_categories(self, instances: InstanceAnnotations, num_things: int) -> np.ndarray:
        """How often each thing category lies on each other one: ``[num_things, num_things]`` int64.

        Row: the category on top. ``instances`` are those of the split.
        """
        order = np.argsort(instances.ids)
        places = order[np.searchsorted(instances.ids, self.ordered, sorter=order)]
        counts = np.zeros((num_things, num_things), np.int64)
        np.add.at(counts, tuple(instances.categories[places].T), 1)
        return counts
