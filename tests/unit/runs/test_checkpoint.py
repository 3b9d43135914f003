import pytest
import torch

from refine.categories import Category, CategoryTable
from refine.errors import RefineError
from refine.runs.checkpoint import check_categories, check_model, make_record, read_checkpoint


def _table(*names):
    return CategoryTable(
        [
            Category(dataset_id=k, name=name, is_thing=True, color=(k, k, k))
            for k, name in enumerate(names, start=1)
        ]
    )


@pytest.fixture
def checkpoint(tmp_path):
    record = make_record({"model": {"semantic": {"channels": 32}}}, _table("ball", "crate"))
    path = tmp_path / "x.ckpt"
    torch.save(
        {"state_dict": {"pipeline.a": torch.ones(2), "other.b": torch.ones(1)}, "refine": record},
        path,
    )
    return read_checkpoint(path)


def test_round_trip(checkpoint):
    assert checkpoint.categories == _table("ball", "crate")
    assert checkpoint.weights.keys() == {"a"}
    assert checkpoint.config["model"]["semantic"]["channels"] == 32


def test_another_package_s_checkpoint_is_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "y.ckpt")
    with pytest.raises(RefineError, match=r"y\.ckpt: not a checkpoint of refine"):
        read_checkpoint(tmp_path / "y.ckpt")


@pytest.mark.parametrize(
    ("names", "expected"),
    [(("ball", "tent"), "'crate'"), (("ball",), "2 against 1"), (("crate", "ball"), "'ball'")],
)
def test_other_categories_are_named(checkpoint, names, expected):
    with pytest.raises(RefineError, match=expected):
        check_categories(checkpoint, _table(*names), root="data")


def test_equal_categories_pass(checkpoint):
    check_categories(checkpoint, _table("ball", "crate"), root="data")


def test_another_model_is_named(checkpoint):
    check_model(checkpoint, {"semantic": {"channels": 32}})
    with pytest.raises(RefineError, match=r"model\.semantic\.channels=32, not 64"):
        check_model(checkpoint, {"semantic": {"channels": 64}})


def test_an_option_younger_than_the_checkpoint_had_its_default(checkpoint):
    check_model(checkpoint, {"proposals": {"anchor_grid": "rounded"}})
    with pytest.raises(RefineError, match=r"model\.proposals\.anchor_grid=rounded, not exact"):
        check_model(checkpoint, {"proposals": {"anchor_grid": "exact"}})
