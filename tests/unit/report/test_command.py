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


def test_tables_are_printed_and_bad_folders_named(runs, tmp_path, capsys):
    arguments = [str(runs), str(tmp_path / "nowhere"), "--tables", "3", "--resamples", "20"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert "## Toy Table 3" in out
    assert "Table 4" not in out
    assert err.startswith("left out: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["markdown", "csv", "latex", "json"])
def test_tables_go_to_a_file_in_every_format(runs, tmp_path, name, capsys):
    path = tmp_path / "tables"
    arguments = [str(runs), "--tables", "--format", name, "-o", str(path), "--resamples", "0"]
    assert main(arguments) == 0
    assert "+ IBPP + SOE" in path.read_text()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("arguments", [[], ["runs", "--wandb", "a/b"], ["--figures", "f"]])
def test_runs_come_from_one_place_and_figures_from_a_cache(arguments, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    err = capsys.readouterr().err
    assert "give" in err or "--figures needs --predictions CACHE" in err


@pytest.mark.parametrize("package", ["pandas", "jinja2", "matplotlib", "tabulate"])
def test_a_missing_package_is_one_line(package, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["runs"]) == 1
    err = capsys.readouterr().err
    assert err == f"error: {package} is missing: pip install 'refine-panoptic[report]'\n"


class FakeWandb(SimpleNamespace):
    """Stands in for the module."""

    class Error(Exception):
        """As wandb.Error."""


def test_tables_come_from_weights_and_biases(monkeypatch, capsys):
    asked = []
    summary = {"pq": 0.421, "pq_things": 0.4, "pq_stuff": 0.45, "num_images": 8}
    run = SimpleNamespace(id="x", name="n", state="finished", config=make_config(), summary=summary)
    api = SimpleNamespace(runs=lambda project: asked.append(project) or [run])
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(Api=lambda: api))
    assert main(["--wandb", "me/panoptic", "--tables", "3", "--format", "json"]) == 0
    values = json.loads(capsys.readouterr().out)[0]["values"]
    value = next(v for v in values if (v["row"], v["metric"]) == ("+ IBPP", "pq"))
    assert asked == ["me/panoptic"]
    assert value["ours"] == 0.421
    assert value["notes"] == "no interval: me/panoptic/x (n): per_image.csv is not at hand"


def test_weights_and_biases_without_an_answer_is_one_line(monkeypatch, capsys):
    def refuse():
        raise FakeWandb.Error("no key\nlog in")

    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(Api=refuse))
    assert main(["--wandb", "me/panoptic"]) == 1
    err = capsys.readouterr().err
    assert err == "error: me/panoptic: Weights & Biases does not answer: no key log in\n"


def test_without_wandb_the_option_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main(["--wandb", "me/panoptic"]) == 1
    assert "needs the package wandb" in capsys.readouterr().err


def test_a_report_draws_from_the_caches_that_runs_name(cache, tmp_path):
    ids = [json.loads((cache / "index.json").read_text())["image_ids"]]
    write_entry(tmp_path / "a", make_evaluation(cache))
    write_entry(tmp_path / "b", make_evaluation(cache, relations=SOE))
    for name in "ab":  # the same images as the cache has
        path = tmp_path / name / "per_image.csv"
        header, *lines = path.read_text().splitlines()
        known = {str(100 + k): str(image_id) for k, image_id in enumerate(ids[0])}
        renamed = [line.replace(line[:3], known.get(line[:3], line[:3]), 1) for line in lines]
        scaled = [
            line.replace("0.", "0.1", 1)
            if name == "b" and line.startswith(str(ids[0][0]))
            else line
            for line in renamed
        ]
        path.write_text(
            "\n".join([header, *sorted(scaled, key=lambda n: int(n.split(",")[0]))]) + "\n"
        )
    out = tmp_path / "report.html"
    names = ["--baseline", str(tmp_path / "a"), "--compared", str(tmp_path / "b")]
    options = ["--predictions", str(cache), "--resamples", "0", "--images", "1"]
    assert main([str(tmp_path), "-o", str(out), *names, *options]) == 0
    text = out.read_text()
    assert "ground truth</figcaption>" in text
    assert "Confusion of the pair decisions" in text
    assert "strong, sigma 2.5" in text


@pytest.mark.parametrize(
    ("option", "message"),
    [("--dataset", "no finished run on a dataset named"), ("--baseline", "no finished run among")],
)
def test_a_dataset_or_a_baseline_that_is_not_there_is_one_line(
    runs, tmp_path, capsys, option, message
):
    out = tmp_path / "r.html"
    assert main([str(runs), "-o", str(out), "--resamples", "0", option, str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not out.exists()


def test_figures_are_drawn(cache, tmp_path, capsys):
    assert main(["--predictions", str(cache), "--figures", str(tmp_path), "--images", "1"]) == 0
    out = capsys.readouterr().out
    assert "SRM (not available)" in out
    assert (
        len(list(tmp_path.glob("figure2_*.png"))) == len(list(tmp_path.glob("figure5_*.png"))) == 1
    )


def test_no_cache_is_one_line(tmp_path, capsys):
    assert main(["--figures", "f", "--predictions", str(tmp_path / "none")]) == 1
    assert "no such folder" in capsys.readouterr().err
