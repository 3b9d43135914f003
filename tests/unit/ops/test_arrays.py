import numpy as np
import torch

from refine.ops.arrays import find_best_columns, find_label_boxes


def test_boxes_of_labels_hold_all_their_pixels():
    rng = np.random.default_rng(0)
    for _ in range(50):
        size = rng.integers(1, 12, 2)
        labels = rng.choice([0, 3, 4, 2**24 - 1], size, p=[0.7, 0.1, 0.1, 0.1]).astype(np.int32)
        expected = {}
        for label in set(labels.ravel().tolist()):
            rows, columns = np.nonzero(labels == label)
            box = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
            expected[label] = tuple(map(int, box))
        assert find_label_boxes(labels) == expected


def test_the_best_column_is_the_first_of_equal_ones():
    scores = torch.tensor([[1.0, 3.0, 3.0], [-1.0, -2.0, -1.0], [float("-inf"), 0.0, -0.5]])
    found = find_best_columns(scores)
    assert found.dtype == torch.int64
    assert found.tolist() == [1, 0, 1]
    assert find_best_columns(scores[:0]).tolist() == []
    assert find_best_columns(scores.T.contiguous().T).tolist() == [1, 0, 1]
