"""``python -m refine.report`` as people call it."""

import json
import sys
from types import SimpleNamespace

import pytest

from make.predictions import write_toy_cache
from make.runs import SOE, make_config, make_evaluation, write_components, write_entry
from refine.report.__main__ import main


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return write_components(tmp_path_factory.mktemp("runs"), seeds=(0, 1))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    root = tmp_path_factory.mktemp("toy")
    heads = ("strong", "ocfusion")
    return write_toy_cache(root / "cache", root=root / "data", heads=heads, num_val=4)


@pytest.mark.parametrize("name", ["markdown", "csv", "latex", "json"])
def test_tables_are_printed_or_go_to_a_file_and_bad_folders_are_named(runs, tmp_path, name, capsys):
    path = tmp_path / "tables"
    arguments = [str(runs), str(tmp_path / "nowhere"), "--tables", "3", "--format", name]
    assert main([*arguments, "--resamples", "0"]) == 0
    out, err = capsys.readouterr()
    assert "+ IBPP + SOE" in out
    assert "Table 4" not in out
    assert err.startswith("left out: ")
    assert err.count("\n") == 1
    assert main([*arguments, "--resamples", "0", "-o", str(path)]) == 0
    assert (path.read_text(), capsys.readouterr().out) == (out, "")


@pytest.mark.parametrize("arguments", [[], ["runs", "--wandb", "a/b"], ["--figures", "f"]])
def test_runs_come_from_one_place_and_figures_from_a_cache(arguments, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    err = capsys.readouterr().err
    assert "give" in err or "--figures needs --predictions CACHE" in err


class FakeWandb(SimpleNamespace):
    """Stands in for the module."""

    class Error(Exception):
        """As wandb.Error."""


def test_tables_come_from_weights_and_biases(monkeypatch, capsys):
    summary = {"pq": 0.421, "pq_things": 0.4, "pq_stuff": 0.45, "num_images": 8}
    run = SimpleNamespace(id="x", name="n", state="finished", config=make_config(), summary=summary)
    api = SimpleNamespace(runs={"me/panoptic": [run]}.get)
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(Api=lambda: api))
    assert main(["--wandb", "me/panoptic", "--tables", "3", "--format", "json"]) == 0
    values = json.loads(capsys.readouterr().out)[0]["values"]
    value = next(v for v in values if (v["row"], v["metric"]) == ("+ IBPP", "pq"))
    assert value["ours"] == 0.421
    assert value["notes"] == "no interval: me/panoptic/x (n): per_image.csv is not at hand"


def refuse():
    raise FakeWandb.Error("no key\nlog in")


@pytest.mark.parametrize(
    ("name", "module", "arguments", "message"),
    [
        *(
            (name, None, ["runs"], f"{name} is missing: pip install 'refine-panoptic[report]'")
            for name in ("pandas", "jinja2", "matplotlib", "tabulate")
        ),
        ("wandb", None, ["--wandb", "a/b"], "needs the package wandb"),
        ("wandb", FakeWandb(Api=refuse), ["--wandb", "a/b"], "does not answer: no key log in"),
        ("", None, ["RUNS", "--dataset", "x"], "no finished run on a dataset named"),
        ("", None, ["RUNS", "--baseline", "x"], "no finished run among"),
        ("", None, ["--figures", "f", "--predictions", "none"], "no such folder"),
    ],
    ids=str,
)
def test_what_is_missing_is_one_line(
    runs, tmp_path, monkeypatch, capsys, name, module, arguments, message
):
    monkeypatch.chdir(tmp_path)
    if name:
        monkeypatch.setitem(sys.modules, name, module)
    assert main([str(runs) if a == "RUNS" else a for a in arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_figures_and_a_report_draw_from_the_caches_that_runs_name(cache, tmp_path, capsys):
    ids = json.loads((cache / "index.json").read_text())["image_ids"]
    for name, changes in (("a", {}), ("b", {"relations": SOE})):
        config = make_evaluation(cache, **changes)
        write_entry(tmp_path / name, config, image_ids=ids, quality=0.9 if changes else 0.8)
    out = tmp_path / "report.html"
    names = ["--baseline", str(tmp_path / "a"), "--compared", str(tmp_path / "b")]
    options = ["--predictions", str(cache), "--resamples", "0", "--images", "1"]
    options += ["--figures", str(tmp_path / "figures")]
    assert main([str(tmp_path), "-o", str(out), *names, *options]) == 0
    text = out.read_text()
    assert "ground truth</figcaption>" in text
    assert "Confusion of the pair decisions" in text
    assert "strong, sigma 2.5" in text
    assert "SRM (not available)" in capsys.readouterr().out
    assert [len([*tmp_path.glob(f"figures/figure{k}_*.png")]) for k in (2, 5)] == [1, 1]
