import pytest
import torch

from refine.ops.boxes import is_proper, sample_labels


def _sample(labels, **kwargs):
    settings = {"num_samples": 8, "positive_fraction": 0.25, "generator": torch.Generator()}
    return sample_labels(torch.tensor(labels), **(settings | kwargs))


@pytest.mark.parametrize(
    ("labels", "drawn"),
    [
        ([1] * 10 + [0] * 20 + [-1] * 5, [1, 1] + [0] * 6),
        ([1] + [0] * 20, [1] + [0] * 7),  # negatives fill up when positives are few
        ([0, 0, -1], [0, 0]),
        ([], []),
    ],
)
def test_sample_has_few_positives_and_no_ignored(labels, drawn):
    index = _sample(labels).tolist()
    assert [labels[k] for k in index] == drawn
    assert len(set(index)) == len(index)


def test_the_generator_decides():
    labels = [0] * 50
    first = _sample(labels, generator=torch.Generator().manual_seed(3))
    again = _sample(labels, generator=torch.Generator().manual_seed(3))
    other = _sample(labels, generator=torch.Generator().manual_seed(4))
    assert first.tolist() == again.tolist() != other.tolist()


def test_proper_boxes_have_an_area_and_finite_corners():
    inf, nan = float("inf"), float("nan")
    boxes = torch.tensor(
        [[0.0, 0, 1, 1], [1, 1, 1, 2], [2, 2, 1, 3], [0, 0, inf, 1], [nan, 0, 1, 1]]
    )
    assert is_proper(boxes).tolist() == [True, False, False, False, False]
