"""Every relation equals one loop over pairs on full canvases."""

from itertools import combinations

import numpy as np
import pytest
import torch

from make.scenes import raw_of, truth_of
from oracles import relations as oracle
from oracles.overlaps import full_mask
from refine.fusion.merge import Instance
from refine.fusion.overlaps import pair_overlaps
from refine.fusion.relations import relate
from refine.options import RelationsOptions
from refine.options.fusion import RELATIONS
from refine.types import MaskCrop, PairOcclusions

SIZE = (16, 18)
VALUES = [0.2, 0.5, 0.5, 0.8]  # few, so that ties are common


def random_crop(rng):
    y, x = rng.integers(0, 12, 2).tolist()
    height, width = rng.integers(2, 1 + np.minimum(9, [SIZE[0] - y, SIZE[1] - x])).tolist()
    return MaskCrop(y, x, rng.random((height, width)) < rng.choice([0.6, 1.0]))


def random_instances(rng, templates):
    """By score; many of them near one of the true outlines; some detections are left out."""
    count = int(rng.integers(0, 9))
    indices = np.sort(rng.choice(12, count, replace=False)).tolist()
    scores = sorted(rng.choice(VALUES, count).tolist(), reverse=True)
    instances = []
    for index, score in zip(indices, scores, strict=True):
        crop, label = random_crop(rng), int(rng.integers(0, 2))
        if templates and rng.random() < 0.8:
            label, outline = templates[rng.integers(len(templates))]
            crop = MaskCrop(
                outline.y, outline.x, outline.mask & (rng.random(outline.mask.shape) < 0.9)
            )
        instances.append(Instance(crop, label, score, index))
    return instances


def random_raw(rng):
    """Twelve detections; every ordered pair has an answer, in any order."""
    corners = np.sort(rng.integers(0, 10, (12, 2, 2)), axis=1)
    corners[:, 1] += 1
    pairs = rng.permutation(np.argwhere(~np.eye(12, dtype=bool)))
    probabilities = torch.from_numpy(rng.choice([0.0, 0.3, 0.6, 1.0], len(pairs))).float()
    answers = PairOcclusions(pairs=torch.from_numpy(pairs), probabilities=probabilities)
    return raw_of(
        corners.reshape(12, 4),
        [0.0] * 12,
        size=SIZE,
        occlusions={"occlusion": answers},
        rankings={"occlusion": torch.from_numpy(rng.choice([0.0, 0.2, 0.7], 12))},
    )


def random_truth(rng):
    """Outlines painted one over the other, then holes of void; and what was painted."""
    segment_map = np.zeros(SIZE, np.int32)
    outlines = {}
    for number in range(1, int(rng.integers(1, 7))):
        crop = random_crop(rng)
        segment_map[crop.slices][crop.mask] = number
        # every fifth is stuff
        outlines[number] = (2 if rng.random() < 0.2 else int(rng.integers(0, 2)), crop)
    segment_map[rng.random(SIZE) < 0.05] = 0
    painted = {k: v for k, v in outlines.items() if (segment_map == k).any()}
    things = [v for v in painted.values() if v[0] < 2]
    categories = {k: c for k, (c, _) in painted.items()}
    return truth_of(segment_map, categories, [(*thing, False) for thing in things]), things


def expected_answer(i, j, *, instances, masks, raw, options, ordered):
    a, b = instances[i], instances[j]
    boxes, ranking = raw.boxes.tolist(), raw.rankings["occlusion"].tolist()
    head = raw.occlusions["occlusion"]
    answers = dict(zip(map(tuple, head.pairs.tolist()), head.probabilities.tolist(), strict=True))
    there, back = answers[a.index, b.index], answers[b.index, a.index]
    scores = (a.score, b.score)
    return {
        "score": lambda: 1,
        "area": lambda: oracle.area(masks[i], masks[j]),
        "shr": lambda: oracle.shr(boxes[a.index], boxes[b.index], options.shr_box_frac),
        "srm": lambda: oracle.srm(ranking[a.index], ranking[b.index], a.label, b.label),
        "occlusion": lambda: oracle.higher(there, back),
        "soft_occlusion": lambda: oracle.soft_occlusion(*scores, there, back, options.sigma),
        "oracle": lambda: ordered(i, j),
    }[options.kind]()


def true_answers(instances, masks, truth, things):
    """A function of two positions."""
    visible = [(s.id, s.category, truth.segment_map == s.id) for s in truth.segments if s.is_thing]
    outlines = [(label, full_mask(crop, SIZE)) for label, crop in things]
    complete = oracle.complete(visible, outlines)
    matches = oracle.true_matches(masks, [i.label for i in instances], complete)

    def answer(i, j):
        region = matches[i] and matches[j] and matches[i][2] & matches[j][2]
        return oracle.oracle(matches[i], matches[j], region, truth.segment_map)

    return answer


def check(seed, kind):
    rng = np.random.default_rng(seed)
    truth, things = random_truth(rng)
    instances = random_instances(rng, things)
    raw = random_raw(rng)
    options = RelationsOptions(
        kind=kind,
        overlap_thresh=float(rng.choice([0.0, 0.05, 0.2, 0.5])),
        intra_category=bool(rng.random() < 0.5),
        sigma=float(rng.choice([1e-5, 0.1, 2.5, 4.0])),
        shr_box_frac=float(rng.choice([0.0, 0.25, 0.5, 1.0])),
    )
    overlaps = pair_overlaps([i.crop for i in instances])
    found = relate(instances, overlaps, options, raw=raw, truth=truth)

    masks = [full_mask(i.crop, SIZE) for i in instances]
    ordered = true_answers(instances, masks, truth, things)
    known = {"instances": instances, "masks": masks, "raw": raw, "ordered": ordered}
    limits = {k: getattr(options, k) for k in ("overlap_thresh", "intra_category")}
    labels = [i.label for i in instances]
    expected = {
        (i, j): expected_answer(i, j, options=options, **known)
        for i, j in combinations(range(len(instances)), 2)
        if oracle.is_queried(masks[i], masks[j], labels[i], labels[j], **limits)
    }
    answers = zip(map(tuple, found.pairs.tolist()), found.on_top.tolist(), strict=True)
    assert dict(answers) == expected
    assert found.on_top.dtype == np.int8
    assert (found.margins >= 0).all()
    assert not found.margins[found.on_top == 0].any()
    return list(expected.values())


@pytest.mark.parametrize("kind", [*RELATIONS])
def test_relations_equal_the_loops(kind):
    answers = [answer for seed in range(100) for answer in check(seed, kind)]
    possible = {"score": [1], "shr": [-1, 0, 1], "srm": [-1, 0, 1], "oracle": [-1, 0, 1]}
    for answer in possible.get(kind, [-1, 1]):
        assert answers.count(answer) > 5, answer
