import json
import re
from xml.etree import ElementTree

import pandas as pd
import pytest

from make.runs import SOE, make_config, write_entry, write_sweeps
from refine.report.collect import read_runs
from refine.report.curves import MAX_SERIES, Chart, draw_svg, list_charts
from refine.report.finished_run import ITERATIONS_NAME
from refine.report.tables import choose_dataset


def load(root, folder=None):
    """Series by title and quantity."""
    runs, _ = read_runs([root])
    charts = list_charts(runs, choose_dataset(runs), folder)
    return {(c.title, c.y_name): c.series for c in charts}


def test_sweeps_become_series_over_their_setting(tmp_path):
    charts = load(write_sweeps(tmp_path))
    (sigma,) = charts["Soft occlusion", "PQ things"].values()
    assert sigma["x"].tolist() == [0.1, 1.0, 2.0, 2.5, 4.0, 10.0]
    (erasing,) = charts["Unknown Erasing", "PQ stuff"].values()
    assert erasing["x"].tolist() == [0.3, 0.4, 0.5, 0.6]
    (iterations,) = charts["Trained with T iterations", "consensus gap"].values()
    assert iterations[["x", "mean"]].to_numpy().tolist() == [[0, 0.04], [1, 0.03], [2, 0.02]]


def test_seeds_are_averaged_and_other_settings_are_another_series(tmp_path):
    for sigma in (1.0, 2.0):
        soft = {**SOE, "sigma": sigma}
        for seed in (0, 1):
            config = make_config(seed=seed, relations=soft)
            metrics = {"pq_things": 0.5 + 0.1 * seed}
            write_entry(tmp_path / f"{sigma}_{seed}", config, metrics=metrics)
        write_entry(tmp_path / f"{sigma}_other", make_config(iterations=2, relations=soft))
    series = load(tmp_path)["Soft occlusion", "PQ things"]
    assert list(series) == ["num_iterations 3", "num_iterations 2"]
    first, other = (points.iloc[0] for points in series.values())
    assert first[["mean", "std"]].tolist() == pytest.approx([0.55, 0.1 / 2**0.5])
    assert pd.isna(other["std"])


def test_other_datasets_and_single_points_make_no_curve(tmp_path):
    write_entry(tmp_path / "a", make_config(relations=SOE))
    other = make_config(relations={**SOE, "sigma": 1.0}, num_val=5)
    write_entry(tmp_path / "b", other, num_images=5)
    assert load(tmp_path) == {}
    assert list(list_charts(read_runs([tmp_path])[0], None, None)) == []


def test_the_iterations_of_one_network(tmp_path):
    path = tmp_path / ITERATIONS_NAME
    path.write_text(json.dumps([{"pq": 0.1}, {"pq": 0.2}]))
    ((key, series),) = load(tmp_path / "none", tmp_path).items()  # no consensus gap
    assert key == ("One network, after each iteration", "PQ")
    (points,) = series.values()
    assert points[["x", "mean"]].to_numpy().tolist() == [[0, 0.1], [1, 0.2]]
    path.write_text("{")
    assert load(tmp_path / "none", tmp_path) == {}


@pytest.mark.parametrize("x_name", ["sigma", "T"])
def test_a_chart_is_well_formed_and_in_the_page_s_colours(x_name):
    points = pd.DataFrame({"x": [1, 10], "mean": [0.5, 0.6], "std": [0.1, float("nan")]})
    chart = Chart("a & b", x_name, "PQ", {str(k): points for k in range(MAX_SERIES + 1)})
    text = draw_svg(chart, prefix="one-")
    root = ElementTree.fromstring(text)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(set(ids)) == len(ids)
    assert all(name.startswith("one-") for name in ids)
    assert re.findall(r"#(?!one-)[\w-]+", text.replace("#ffffff", "")) == []
    assert set(re.findall(r"var\(--c(\d)\)", text)) == set(map(str, range(MAX_SERIES)))
    assert {"1", "10"} <= {"".join(e.itertext()).strip() for e in root.iter() if "text" in e.tag}
    assert draw_svg(chart, prefix="one-") == text
