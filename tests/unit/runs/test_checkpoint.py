from pathlib import Path

import pytest
import torch

from make.errors import refused
from refine.categories import Category, CategoryTable
from refine.runs.checkpoint import check_categories, check_model, make_record, read_checkpoint


def _table(*names):
    numbered = enumerate(names, start=1)
    return CategoryTable(
        [Category(dataset_id=k, name=name, is_thing=True, color=(k, k, k)) for k, name in numbered]
    )


@pytest.fixture
def checkpoint(tmp_path):
    model = {"semantic": {"channels": 32}, "ibpp": {"detach": False}}
    config = {"model": model, "data": {}, "fusion": {}}
    record = make_record(config, _table("ball", "crate"))
    weights = {"pipeline.a": torch.ones(2), "other.b": torch.ones(1)}
    torch.save({"state_dict": weights, "refine": record}, tmp_path / "x.ckpt")
    return read_checkpoint(tmp_path / "x.ckpt")


def test_round_trip(checkpoint):
    assert checkpoint.categories == _table("ball", "crate")
    assert checkpoint.weights.keys() == {"a"}
    assert checkpoint.config["model"]["semantic"]["channels"] == 32


def test_another_package_s_checkpoint_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # of long paths, messages leave folders out
    torch.save({"state_dict": {}}, tmp_path / "y.ckpt")
    with refused("y.ckpt: not a checkpoint of refine"):
        read_checkpoint(tmp_path / "y.ckpt")
    torch.save({"model": {}}, tmp_path / "model_final.pth")
    (tmp_path / "model_final.pkl").write_bytes(b"")
    for name in ("model_final.pth", "model_final.pkl"):
        with refused(f"python -m refine.convert source={name} out=NAME.ckpt"):
            read_checkpoint(Path(name))


def test_weights_alone_cannot_be_resumed(checkpoint):
    with refused("holds weights alone", checkpoint.path.name):
        checkpoint.require_training_state()


def _without(*keys):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (_without("state_dict"), "state_dict"),
        (_without("refine", "config"), "config"),
        (_without("refine", "config", "fusion"), "fusion"),
        (_without("refine", "categories"), "categories"),
        (lambda c: c.update(refine=3), "not a checkpoint of refine.train"),
        (lambda c: c.update(state_dict=[1]), "dictionaries"),
        (lambda c: c["state_dict"].update({"pipeline.a": 3}), "tensors"),
        (lambda c: c["state_dict"].update({7: torch.ones(1)}), "names have to be text"),
        (lambda c: c["refine"].update(heads=[1]), "dictionaries"),
        (lambda c: c["refine"].update(config=torch.zeros(3)), "dictionaries"),
        (lambda c: c["refine"].update(categories=torch.zeros(0)), "a list"),
        (lambda c: c["refine"]["categories"].append(torch.zeros(0)), "categories[2]"),
        (lambda c: c["refine"]["config"].update(model=None), "dictionaries"),
        (lambda c: c["refine"]["categories"][0].update(color=[1e999] * 3), "categories[0]"),
    ],
)
def test_a_part_that_is_missing_or_of_another_kind_is_refused(checkpoint, change, word):
    content = torch.load(checkpoint.path, weights_only=True)
    change(content)
    torch.save(content, checkpoint.path)
    with refused("x.ckpt", word):
        read_checkpoint(checkpoint.path)


@pytest.mark.parametrize(
    ("names", "expected"),
    [(("ball", "tent"), "'crate'"), (("ball",), "2 against 1"), (("crate", "ball"), "'ball'")],
)
def test_other_categories_are_named(checkpoint, names, expected):
    check_categories(checkpoint, _table("ball", "crate"), source="data")
    with refused(expected):
        check_categories(checkpoint, _table(*names), source="data")


@pytest.mark.parametrize(
    ("section", "key", "same", "other"),
    [
        ("semantic", "channels", 32, 64),
        # an option younger than the checkpoint had its default
        ("proposals", "anchor_grid", "rounded", "exact"),
        # recorded as false
        ("ibpp", "detach", "none", "both"),
    ],
)
def test_another_model_is_named(checkpoint, section, key, same, other):
    check_model(checkpoint, {section: {key: same}})
    with refused(f"model.{section}.{key}={same}, not {other}"):
        check_model(checkpoint, {section: {key: other}})
