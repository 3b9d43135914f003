"""A path on the command line is what it says, whatever characters it holds."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from refine.config import compose
from refine.config.path_arguments import quote_paths

NAMES = [
    "plain/a.ckpt", "a b", " a ", "a=b", "seed=1/last.ckpt", "(1)", "a#b", "é/ü.png", "it's", 'a"b',
    "[a]", "a[1]", "{x: 1}", "a,b", "a\\b", "a\\'b", "ends\\", "1e5", "007", "true", "f(x)", "a;b",
    "a&b", "~x", "x:y", "'q'", "日本", "a\tb", "*.jpg", "a/**/[ab]*.png",
]  # fmt: skip


def _read(argument):
    return OverridesParser.create().parse_override(argument).value()


@pytest.mark.parametrize("name", NAMES)
def test_round_trip(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "/" not in name:
        (tmp_path / name).touch()
    for key in ("source", "ckpt_path", "data.root", "data.train.images", "data.val.annotations"):
        (argument,) = quote_paths([f"{key}={name}"])
        assert str(_read(argument)) == name


@pytest.mark.parametrize(
    ("command", "key"), [("train", "run_dir"), ("check", "json"), ("convert", "config")]
)
def test_settings_composed_in_python_take_them_too(command, key):
    given = ["source=a", "out=b"] if command == "convert" else ["seed=3"] * (command == "train")
    settings = compose(command, [*given, f"{key}=my räume (1), a=b"])
    assert getattr(settings, key) == "my räume (1), a=b"


def test_what_is_no_path_or_quoted_already_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = [
        "ckpt_path=null", "ckpt_path='a b'", "source=${out}/x", "seed=1,2", "fusion={a: 1}", "-m",
        "ckpt_path=a,b", "--cfg", "job", "source=",
    ]  # fmt: skip
    assert quote_paths(given) == given
    (tmp_path / "a (1)").touch()
    (tmp_path / "b").touch()
    (tmp_path / "a,b").touch()
    assert quote_paths(["-m", "source=a (1),b"])[1] == "source='a (1)',b"  # a sweep over two
    assert quote_paths(["-m", "source=a,b"])[1] == "source='a,b'"  # there is such a file
    assert quote_paths(["source=c,d"]) == ["source='c,d'"]  # no sweep without -m
