import json

import pytest

from made_up_ablation import SOE, make_config, write_entry, write_sweeps
from refine.report.ablation import choose_dataset
from refine.report.curves import (
    ITERATIONS_NAME,
    erasing_series,
    iteration_series,
    read_iterations,
    sigma_series,
)
from refine.report.entries import read_entries


def load(root):
    entries, _ = read_entries([root])
    return entries, choose_dataset(entries)


def test_sweeps_become_series_over_their_knob(tmp_path):
    entries, dataset = load(write_sweeps(tmp_path))
    (sigma,) = sigma_series(entries, dataset, metric="pq_things")
    assert [p.x for p in sigma.points] == [0.1, 1.0, 2.0, 2.5, 4.0, 10.0]
    (erasing,) = erasing_series(entries, dataset, metric="pq_stuff")
    assert [p.x for p in erasing.points] == [0.3, 0.4, 0.5, 0.6]
    (iterations,) = iteration_series(entries, dataset, metric="consensus_gap")
    assert [(p.x, p.y) for p in iterations.points] == [(0, 0.04), (1, 0.03), (2, 0.02)]


def test_seeds_are_averaged_and_other_settings_are_another_series(tmp_path):
    for sigma in (1.0, 2.0):
        for seed in (0, 1):
            config = make_config(seed=seed, relations={**SOE, "sigma": sigma})
            write_entry(tmp_path / f"{sigma}_{seed}", config, quality=0.5 + 0.1 * seed)
        other = make_config(iterations=2, relations={**SOE, "sigma": sigma})
        write_entry(tmp_path / f"{sigma}_other", other)
    entries, dataset = load(tmp_path)
    series = sigma_series(entries, dataset, metric="pq")
    assert [s.label for s in series] == ["num_iterations 3", "num_iterations 2"]
    values = [e.metrics["pq"] for e in entries if e.name.endswith(("1.0_0", "1.0_1"))]
    assert series[0].points[0].y == pytest.approx(sum(values) / 2)
    assert series[0].points[0].std == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert series[1].points[0].std is None


def test_other_datasets_and_single_points_make_no_curve(tmp_path):
    write_entry(tmp_path / "a", make_config(relations=SOE))
    other = make_config(relations={**SOE, "sigma": 1.0}, num_val=5)
    write_entry(tmp_path / "b", other, num_images=5)
    entries, dataset = load(tmp_path)
    assert sigma_series(entries, dataset, metric="pq") == []
    assert sigma_series(entries, None, metric="pq") == []


def test_the_iterations_of_one_network(tmp_path):
    path = tmp_path / ITERATIONS_NAME
    path.write_text(json.dumps([{"pq": 0.1}, {"pq": 0.2}]))
    (series,) = read_iterations(tmp_path, metric="pq")
    assert [(p.x, p.y) for p in series.points] == [(0, 0.1), (1, 0.2)]
    assert read_iterations(tmp_path, metric="consensus_gap") == []
    path.write_text("{")
    assert read_iterations(tmp_path, metric="pq") == []
    assert read_iterations(None, metric="pq") == []
