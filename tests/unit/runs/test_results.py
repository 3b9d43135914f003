import json

import pytest
import yaml

from refine.metrics.functional import GroupQuality
from refine.metrics.quality_table import QualityTable
from refine.runs.results import config_hash, print_table, write_config, write_results


def test_results_are_flat_json_csv_and_done(tmp_path):
    write_results(
        tmp_path / "run",
        {"pq": 0.5, "num_images": 3},
        "a,b\n",
        per_image_csv="i\n",
        config={"x": 1},
    )
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == {
        "pq": 0.5, "num_images": 3,
    }  # fmt: skip
    assert (tmp_path / "run" / "per_category.csv").read_text() == "a,b\n"
    assert (tmp_path / "run" / "DONE").read_text().strip() == config_hash({"x": 1})
    assert not [p for p in (tmp_path / "run").iterdir() if p.name.startswith(".")]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_results(tmp_path, {"pq": 0.5}, "old", per_image_csv="i\n", config={})
    with pytest.raises(TypeError):
        write_results(tmp_path, {"pq": object()}, "new", per_image_csv="i\n", config={})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"pq": 0.5}


def test_config_round_trip(tmp_path):
    write_config(tmp_path, {"data": {"sizes": [1, 2], "crop": None}})
    text = (tmp_path / "config.yaml").read_text()
    assert yaml.safe_load(text) == {"data": {"sizes": [1, 2], "crop": None}}


def test_hash_knows_the_settings_but_not_the_place_or_the_order():
    base = config_hash({"a": 1, "b": {"c": 2}, "run_dir": "x"})
    assert base == config_hash({"b": {"c": 2}, "a": 1, "run_dir": "y"})
    assert base != config_hash({"a": 1, "b": {"c": 3}, "run_dir": "x"})


def test_table_on_the_console(capsys):
    group = GroupQuality(pq=0.5, sq=0.75, rq=0.6, num_categories=4)
    nothing = GroupQuality(pq=0.0, sq=0.0, rq=0.0, num_categories=0)
    table = QualityTable({"all": group, "things": group, "stuff": nothing})
    print_table(table, {"num_images": 7, "ap_box": 0.123})
    out = capsys.readouterr().out
    assert "50.0" in out
    assert "75.0" in out
    assert "7 images, AP^b 12.3" in out
