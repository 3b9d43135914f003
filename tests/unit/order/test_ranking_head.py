"""The ranking network: maps, training targets, loss and scores."""

import numpy as np
import pytest
import torch
from torch import nn

from make.batches import fake_sample
from oracles.masks import paste_values
from oracles.ranking import category_map, outline_cells, ranking_scores
from oracles.ranking import ranking_loss as plain_loss
from refine.ops.outlines import decode_mask, encode_mask
from refine.options import RankingOptions
from refine.order.ranking_head import (
    RankingHead,
    category_maps,
    compute_category_maps,
    outlines_on_cells,
    paste_on_cells,
    rank_instances,
    ranking_loss,
)
from refine.types import MaskCrop

THINGS, CATEGORIES, SIZE = 4, 7, (12, 17)


def _head(kernel_size=7):
    torch.manual_seed(0)
    return RankingHead(THINGS, options=RankingOptions(kernel_size=kernel_size))


def _cells(*rectangles):
    """Each ``(top, left, bottom, right)``."""
    cells = torch.zeros((len(rectangles), *SIZE), dtype=torch.bool)
    for mask, (top, left, bottom, right) in zip(cells, rectangles, strict=True):
        mask[top:bottom, left:right] = True
    return cells


@pytest.mark.parametrize("kernel_size", [1, 3, 7])
def test_it_is_a_row_and_a_column_without_activation(kernel_size):
    head, maps = _head(kernel_size), torch.rand(2, THINGS, *SIZE) < 0.3
    kernel = torch.einsum("omy,mix->oiyx", head.down.weight[..., 0], head.across.weight[:, :, 0])
    whole = nn.functional.conv2d(maps.float(), kernel, padding=kernel_size // 2)
    torch.testing.assert_close(head(maps), whole, rtol=1e-4, atol=1e-5)


def test_masks_are_pasted_at_the_centres_of_cells():
    rng = np.random.default_rng(0)
    masks = rng.random((6, 28, 28), dtype=np.float32)
    corners = rng.uniform(-5, 40, (6, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 30, (6, 2))], axis=1)
    cells = paste_on_cells(torch.from_numpy(masks), torch.from_numpy(boxes).float(), size=SIZE)
    y, x = (np.arange(n) * 4 + 2 for n in SIZE)
    values = paste_values(masks, boxes / 4, SIZE)
    for cell, box, value in zip(cells.numpy(), boxes, values, strict=True):
        inside = ((y >= box[1]) & (y < box[3]))[:, None] & (x >= box[0]) & (x < box[2])
        assert np.array_equal(cell, (value >= 0.5) & inside)
    assert cells.any()


def test_scores_equal_those_of_a_loop():
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 2, (THINGS, *SIZE)).astype(np.float32)
    given = logits, rng.random((7, *SIZE)) < 0.3, rng.integers(0, THINGS, 7)
    found, expected = rank_instances(*map(torch.from_numpy, given)), ranking_scores(*given)
    assert found.dtype == torch.float32
    assert len(set(expected)) == 7
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("rectangles", "labels"),
    [
        ([], []),
        ([(0, 0, 5, 5)], [1]),
        ([(0, 0, 5, 5), (5, 5, 9, 9)], [1, 2]),  # apart
        ([(0, 0, 5, 5), (0, 0, 5, 5)], [1, 1]),  # one category
        ([(0, 0, 5, 5), (3, 3, 3, 3)], [1, 2]),  # an empty mask
    ],
)
def test_without_contested_cells_the_score_is_zero(rectangles, labels):
    logits = torch.randn(THINGS, *SIZE)
    labels = torch.tensor(labels, dtype=torch.int64)
    scores = rank_instances(logits, _cells(*rectangles), labels)
    assert scores.tolist() == [0.0] * len(rectangles)


def test_detections_are_ranked_from_their_masks():
    head = _head()
    boxes = torch.tensor([[0.0, 0, 32, 32], [16, 16, 48, 48], [50, 30, 60, 40]])
    masks = torch.full((3, 28, 28), 0.9, requires_grad=True)
    labels = torch.tensor([0, 2, 1])
    scores = head.rank(masks, boxes, labels, size=SIZE)
    cells = _cells((0, 0, 8, 8), (4, 4, 12, 12), (8, 13, 10, 15))
    assert torch.equal(paste_on_cells(masks, boxes, size=SIZE), cells)
    logits = head(category_maps(cells, labels, num_things=THINGS)[None])[0]
    torch.testing.assert_close(scores, rank_instances(logits, cells, labels))
    assert scores[2] == 0 < scores[0]
    assert head.rank(masks[:0], boxes[:0], labels[:0], size=SIZE).shape == (0,)


def _batch():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (2, THINGS, 5, 6)).astype(np.float32)
    maps = rng.random((2, THINGS, 5, 6)) < 0.4
    semantic = rng.choice([*range(CATEGORIES), 255], (2, 20, 24)).astype(np.uint8)
    return tuple(map(torch.from_numpy, (logits, maps, semantic)))


def test_it_is_the_mean_over_contested_cells_with_a_visible_thing():
    logits, maps, semantic = _batch()
    expected = plain_loss(logits.numpy(), maps.numpy(), semantic.numpy())
    assert expected > 0
    half = ranking_loss(logits.bfloat16(), maps, semantic)
    assert half.dtype == torch.float32  # summed in full
    assert float(half) == pytest.approx(expected, rel=0.02)
    loss = ranking_loss(logits.requires_grad_(), maps, semantic)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    loss.backward()  # other cells get no gradient
    visible = semantic[:, 2::4, 2::4]
    counts = (maps.sum(dim=1) >= 2) & (visible < THINGS)
    moved = logits.grad.abs().sum(dim=1) > 0
    assert torch.equal(moved, counts)
    assert 0 < int(counts.sum()) < counts.numel()


@pytest.mark.parametrize(
    ("num_maps", "seen"), [(0, None), (1, None), (THINGS, 255), (THINGS, THINGS)]
)  # no masks, one category, void, stuff is seen
def test_without_a_cell_that_counts_it_is_zero_and_stays_in_the_graph(num_maps, seen):
    layer = nn.Conv2d(THINGS, THINGS, 1)
    logits, maps, semantic = _batch()
    maps[:, num_maps:] = False
    loss = ranking_loss(layer(logits), maps, semantic if seen is None else semantic * 0 + seen)
    assert float(loss.detach()) == 0
    loss.backward()
    assert all(p.grad is not None and not p.grad.any() for p in layer.parameters())


def _cells_of(crop, size):
    mask = np.zeros(size, bool)
    mask[crop.slices] = crop.mask
    return outline_cells(mask)


def test_a_cell_belongs_to_what_covers_most_of_it():
    rng = np.random.default_rng(0)
    for _ in range(40):
        h, w = rng.integers(1, 20, 2)
        y, x = int(rng.integers(0, 33 - h)), int(rng.integers(0, 65 - w))
        crop = MaskCrop(y, x, rng.random((h, w)) < 0.8)
        (cells,) = outlines_on_cells([encode_mask(crop)], (8, 16))
        assert np.array_equal(cells, _cells_of(crop, (32, 64)))


def test_outlines_that_share_no_pixel_share_no_cell_and_too_little_is_nothing():
    """Halves of a cell: with "at least half" the cell would seem contested."""
    shapes = {(0, 0): (8, 6), (0, 6): (8, 6), (31, 63): (1, 1), (32, 64): (0, 0)}
    masks = [encode_mask(MaskCrop(*at, np.ones(shape, bool))) for at, shape in shapes.items()]
    cells = outlines_on_cells(masks, (8, 16))
    assert not (cells[0] & cells[1]).any()
    assert cells.any(axis=(1, 2)).tolist() == [True, True, False, False]


def test_maps_of_a_batch():
    rng = np.random.default_rng(1)
    targets = [fake_sample(rng, num_instances=n, size=(64, 96)).target for n in (3, 0, 5)]
    maps = compute_category_maps(targets, num_things=3)
    assert maps.dtype == torch.bool
    for found, target in zip(maps, targets, strict=True):
        outlines = [_cells_of(decode_mask(m), (64, 96)) for m in target.masks]
        cells = np.array(outlines, bool).reshape(-1, 16, 24)
        assert np.array_equal(found.numpy(), category_map(cells, target.labels.numpy(), 3))
