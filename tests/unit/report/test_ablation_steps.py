import re
from pathlib import Path

import pytest

from refine.config import compose
from refine.config.locate import conf_dir
from refine.report.ablation_steps import SWEEPS, AblationSteps

OUT = Path("some runs/ablation")


@pytest.fixture
def steps():
    scripts = conf_dir().parent / "scripts"
    return AblationSteps(out=OUT, scripts=scripts, num_seeds=3, num_jobs=2, overrides=["data.x=1"])


def find(steps, title):
    return next(step.command for step in steps.list_steps() if step.title == title)


def test_titles_tell_the_order(steps):
    titles = [step.title for step in steps.list_steps()]
    assert titles[:2] == ["networks", "heads"]
    assert titles[2:4] == ["saving/baseline", "saving/refine"]
    assert tuple(titles[4 : 4 + len(SWEEPS)]) == SWEEPS
    assert titles[-5:] == [*steps.tables, "figures", "report"]


def test_every_multirun_is_of_all_seeds_and_only_trainings_get_the_overrides(steps):
    multiruns = [step.command for step in steps.list_steps() if step.command[3] == "-m"]
    assert len(multiruns) == 4 + len(SWEEPS)
    assert all("seed=0,1,2" in command for command in multiruns)
    given = [command[2] for command in multiruns if "data.x=1" in command]
    assert given == ["refine.train", "refine.train"]


@pytest.mark.parametrize("title", ["networks", "heads", "saving/refine", "components", "sigma"])
def test_hydra_takes_every_override(title):
    """But for those of Hydra itself, which are there in a multirun only."""
    steps = AblationSteps(out=OUT, scripts=Path("scripts"))
    _, _, module, _, *overrides = find(steps, title)
    own = [o for o in overrides if not o.startswith("hydra")]
    cfg = compose(module.removeprefix("refine."), own)
    if title == "saving/refine":
        assert cfg.ckpt_path == f"{OUT}/heads/occlusion/seed0/checkpoints/last.ckpt"
        assert cfg.ranking_ckpts == {"srm": f"{OUT}/heads/ranking/seed0/checkpoints/last.ckpt"}
    if title == "heads":
        assert cfg.detector_ckpt_path == f"{OUT}/networks/toy_ibpp3/seed0/checkpoints/last.ckpt"


def test_the_networks_that_later_steps_read_are_trained():
    text = (conf_dir() / "sweep" / "toy_ablation.yaml").read_text()
    (trained,) = re.findall(r"experiment: (\S+)", text)
    assert {"toy_ibpp0", "toy_ibpp3"} <= set(trained.split(","))


def test_scripts_exist_and_write_where_the_tables_are_read(steps):
    commands = [step.command for step in steps.list_steps()[-5:]]
    assert all(Path(command[1]).is_file() for command in commands)
    outputs = [Path(command[command.index("--out") + 1]) for command in commands]
    assert outputs == [*steps.tables.values(), OUT / "figures", steps.report]
