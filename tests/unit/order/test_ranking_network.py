"""The ranking network: what it reads, what it says, and of whom."""

import numpy as np
import pytest
import torch
from torch import nn

from oracles.masks import paste_values
from oracles.ranking import category_map, ranking_scores
from refine.options import RankingOptions
from refine.order.ranking_network import RankingHead, category_maps, paste_on_cells, rank_instances

THINGS, SIZE = 4, (12, 17)


def _head(**options):
    torch.manual_seed(0)
    return RankingHead(THINGS, options=RankingOptions(**options))


def _cells(*rectangles):
    """Each ``(top, left, bottom, right)``."""
    cells = torch.zeros((len(rectangles), *SIZE), dtype=torch.bool)
    for mask, (top, left, bottom, right) in zip(cells, rectangles, strict=True):
        mask[top:bottom, left:right] = True
    return cells


@pytest.mark.parametrize("kernel_size", [1, 3, 7])
def test_it_is_a_row_and_a_column_without_activation(kernel_size):
    head = _head(kernel_size=kernel_size)
    maps = torch.rand(2, THINGS, *SIZE) < 0.3
    logits = head(maps)
    assert logits.shape == maps.shape
    assert not head.across.bias.any()
    kernel = torch.einsum("omy,mix->oiyx", head.down.weight[..., 0], head.across.weight[:, :, 0])
    whole = nn.functional.conv2d(maps.float(), kernel, padding=kernel_size // 2)
    torch.testing.assert_close(logits, whole, rtol=1e-4, atol=1e-5)


def test_every_category_is_read_and_answered():
    head = _head()
    maps = torch.zeros(1, THINGS, *SIZE)
    nothing = head(maps)
    for category in range(THINGS):
        changed = maps.clone()
        changed[0, category, 6, 8] = 1
        difference = (head(changed) - nothing).abs().amax(dim=1)[0]
        seen = difference > 0
        assert seen[3:10, 5:12].all()
        assert int(seen.sum()) == 7 * 7


def test_masks_are_pasted_at_the_centres_of_cells():
    rng = np.random.default_rng(0)
    masks = rng.random((6, 28, 28), dtype=np.float32)
    corners = rng.uniform(-5, 40, (6, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 30, (6, 2))], axis=1)
    cells = paste_on_cells(torch.from_numpy(masks), torch.from_numpy(boxes).float(), size=SIZE)
    y, x = (np.arange(n) * 4 + 2 for n in SIZE)
    for cell, box, value in zip(
        cells.numpy(), boxes, paste_values(masks, boxes / 4, SIZE), strict=True
    ):
        inside = ((y >= box[1]) & (y < box[3]))[:, None] & (x >= box[0]) & (x < box[2])
        assert np.array_equal(cell, (value >= 0.5) & inside)
    assert cells.any()


def test_a_category_is_the_union_of_its_masks():
    rng = np.random.default_rng(1)
    cells, labels = rng.random((300, *SIZE)) < 0.02, rng.integers(0, THINGS - 1, 300)
    maps = category_maps(torch.from_numpy(cells), torch.from_numpy(labels), num_things=THINGS)
    assert np.array_equal(maps.numpy(), category_map(cells, labels, THINGS))
    assert not maps[-1].any()


def test_scores_equal_those_of_a_loop():
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 2, (THINGS, *SIZE)).astype(np.float32)
    cells, labels = rng.random((7, *SIZE)) < 0.3, rng.integers(0, THINGS, 7)
    found = rank_instances(*(torch.from_numpy(a) for a in (logits, cells, labels)))
    expected = ranking_scores(logits, cells, labels)
    assert found.dtype == torch.float32
    assert len(set(expected)) == 7
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_the_category_that_is_seen_ranks_higher():
    cells = _cells((0, 0, 8, 8), (4, 4, 12, 12))
    logits = torch.zeros(THINGS, *SIZE)
    logits[2] = 5
    logits[0, :4] = 50  # where the two masks do not meet
    first, second = rank_instances(logits, cells, torch.tensor([0, 2])).tolist()
    assert second > 0.9 > 0.1 > first > 0


@pytest.mark.parametrize(
    ("rectangles", "labels"),
    [
        ([], []),
        ([(0, 0, 5, 5)], [1]),
        ([(0, 0, 5, 5), (5, 5, 9, 9)], [1, 2]),
        ([(0, 0, 5, 5), (0, 0, 5, 5)], [1, 1]),
        ([(0, 0, 5, 5), (3, 3, 3, 3)], [1, 2]),
    ],
    ids=["nothing", "one", "apart", "one category", "an empty mask"],
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
    nobody = head.rank(masks[:0], boxes[:0], labels[:0], size=SIZE)
    assert nobody.shape == (0,)


def test_a_head_learns_who_is_seen():
    """Category 2 lies on 0, and 0 on 1, always: every overlap has one answer."""
    head = _head(kernel_size=3)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    cells = _cells((0, 0, 6, 6), (3, 3, 9, 9), (6, 8, 12, 15), (8, 12, 12, 17))
    labels, pairs = torch.tensor([0, 2, 1, 0]), [((3, 6), (3, 6), 2), ((8, 12), (12, 15), 0)]
    maps = category_maps(cells, labels, num_things=THINGS)[None]
    for _ in range(30):
        logits = head(maps)[0]
        losses = [
            nn.functional.cross_entropy(
                logits[:, slice(*rows), slice(*columns)].flatten(1).T,
                torch.full(((rows[1] - rows[0]) * (columns[1] - columns[0]),), top),
            )
            for rows, columns, top in pairs
        ]
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
    scores = rank_instances(head(maps)[0].detach(), cells, labels)
    assert scores[1] > scores[0]
    assert scores[3] > scores[2]
