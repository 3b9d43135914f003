"""The notebooks run on toy data, and are committed without outputs."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def _code_cells(path):
    return [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_outputs_are_committed(path):
    assert all(not c["outputs"] and c["execution_count"] is None for c in _code_cells(path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the toy dataset is generated here
    namespace = {}
    for cell in _code_cells(path):
        source = "".join(cell["source"]).replace(
            '"data=toy"', '"data=toy", "data.toy.num_train=3", "data.toy.num_val=2"'
        )
        exec(compile(source, str(path), "exec"), namespace)
    if path.stem == "04_ablation_report":
        assert "Toy Table 3" in (tmp_path / namespace["OUT"]).read_text()
    else:
        assert len(namespace["data"].val_dataset) == 2
