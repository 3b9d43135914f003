import torch

from refine.ops.boxes import is_proper, sample_labels


def _sample(labels, **kwargs):
    settings = {"num_samples": 8, "positive_fraction": 0.25, "generator": torch.Generator()}
    return sample_labels(torch.tensor(labels), **(settings | kwargs))


def test_sample_has_few_positives_and_no_ignored():
    labels = [1] * 10 + [0] * 20 + [-1] * 5
    index = _sample(labels)
    drawn = torch.tensor(labels)[index]
    assert drawn.tolist() == [1, 1] + [0] * 6
    assert len(set(index.tolist())) == 8


def test_negatives_fill_up_when_positives_are_few():
    assert torch.tensor([1] + [0] * 20)[_sample([1] + [0] * 20)].tolist() == [1] + [0] * 7


def test_too_few_candidates_give_a_smaller_sample():
    assert len(_sample([0, 0, -1])) == 2
    assert len(_sample([])) == 0


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
