"""The backbone that docs/extending.md shows is trained, evaluated, and needs its module."""

import json
import shutil

import pytest
import torch
from torchvision.models import convnext_tiny

from make.commands import run_main
from make.pages import commands, write_shown_files
from refine.options import BACKBONES
from refine.runs.checkpoint import read_checkpoint

pytestmark = pytest.mark.slow

SMALL = ("data.", "model.roi.", "trainer.", "callbacks.")


@pytest.fixture(scope="module")
def trained(settings, tmp_path_factory):
    """A folder with the modules of the page, and a run of its command from ConvNeXt's weights."""
    folder = tmp_path_factory.mktemp("extending")
    write_shown_files(folder)
    torch.manual_seed(1)
    torch.save(convnext_tiny(num_classes=3).state_dict(), folder / "convnext.pth")
    (command,) = (
        given
        for name, given in commands()
        if name == "train" and "plugins=[convnext]" in given and "experiment=toy" in given
    )
    small = [s for s in settings if s.startswith(SMALL)]
    short = ["trainer.max_steps=2", "optimizer.lr=1e-9", "compute_ap=false", "weights=convnext.pth"]
    assert not run_main("train", *command, *small, *short, "hydra.run.dir=RUN", cwd=folder)
    yield folder
    shutil.rmtree(folder)  # half a gigabyte


def test_the_module_s_weights_are_loaded_and_its_checkpoint_evaluated(trained):
    found = read_checkpoint(trained / "RUN/checkpoints/best.ckpt").weights
    given = torch.load(trained / "convnext.pth", weights_only=True)
    body = {k: v for k, v in given.items() if k.startswith("features.")}
    prefix = "network.backbone.body."
    kept = {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
    assert kept.keys() == body.keys()
    assert all(torch.allclose(kept[k], body[k], atol=1e-7) for k in body)
    best = "ckpt_path=RUN/checkpoints/best.ckpt"
    code = run_main("evaluate", best, "plugins=[convnext]", "hydra.run.dir=again", cwd=trained)
    assert code == 0
    assert not run_main("export", best, "plugins=[convnext]", "out=b.safetensors", cwd=trained)
    assert (trained / "b.safetensors").exists()
    metrics = [json.loads((trained / k / "metrics.json").read_text()) for k in ("RUN", "again")]
    assert metrics[0]["pq"] == metrics[1]["pq"]


def test_a_checkpoint_imports_nothing_by_itself(trained, monkeypatch, capsys):
    monkeypatch.setattr(BACKBONES, "added", {})
    assert run_main("evaluate", "ckpt_path=RUN/checkpoints/best.ckpt", cwd=trained) == 1
    message = capsys.readouterr().err
    assert "name='convnext_tiny': expected one of r18, " in message
    assert "or one that a module registers (plugins=[MODULE]" in message


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("plugins=[absent_module]", "plugins: absent_module: ModuleNotFoundError"),
        ("plugins=[broken]", "plugins: broken: ZeroDivisionError: division by zero"),
        (
            "plugins=[convnext] model.backbone.name=convnext_tiny model.backbone.norm=gn",
            "frozen_stages=2: expected 0, as convnext_tiny is no ResNet",
        ),
    ],
)
def test_refused(trained, setting, message, capsys):
    (trained / "broken.py").write_text("1 / 0")
    overrides = ["experiment=r50_panoptic_fpn", *setting.split()]
    assert run_main("train", *overrides, cwd=trained) == 1
    assert message in capsys.readouterr().err
