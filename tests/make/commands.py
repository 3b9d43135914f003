"""Commands as tests start them: in this process, or as processes of their own."""

import importlib.util
import os
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from refine.config import compose
from refine.workflows.convert_weights import convert as _convert
from refine.workflows.evaluate_checkpoint import evaluate as _evaluate
from refine.workflows.predict_images import predict as _predict
from refine.workflows.score_results import score as _score
from refine.workflows.train_stages import train as _train

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.append(str(SCRIPTS))  # where one script finds another
QUIET = ["trainer=cpu", "trainer.enable_progress_bar=false", "data.num_workers=0"]


def train(run_dir, *overrides):
    """The metrics of a training."""
    return _train(compose("train", [f"run_dir={run_dir}", *overrides]))


def evaluate(run_dir, *overrides):
    """The metrics of a checkpoint, or of cached predictions."""
    from_cache = any(o.startswith("predictions=") for o in overrides)
    given = [f"run_dir={run_dir}", *(QUIET[2:] if from_cache else QUIET), *overrides]
    return _evaluate(compose("evaluate", given))


def predict(out, *overrides):
    """The folder of the predictions."""
    return _predict(compose("predict", [f"out={out}", "device=cpu", *overrides]))


def score(out, *overrides):
    """The metrics of result files."""
    return _score(compose("score", [f"out={out}", *overrides]))


def convert(out, *overrides):
    """The file that was written."""
    return _convert(compose("convert", [f"out={out}", *overrides]))


def run_main(name, *arguments, cwd):
    """The exit code of a command that is started in this process as from its command line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        patch.setenv("HYDRA_FULL_ERROR", "0")  # the command sets it
        patch.chdir(cwd)
        try:
            importlib.import_module(f"refine.{name}").main()
        except SystemExit as end:
            return end.code
    return 0


def start_process(name, *arguments, cwd, check=False):
    """The finished process of ``python -m refine.NAME``, on one thread."""
    return subprocess.run(
        [sys.executable, "-m", f"refine.{name}", *map(str, arguments)],
        check=check, capture_output=True, text=True, cwd=Path(cwd),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@contextmanager
def steps_of(module, *, cut_at=None):
    """The list of training steps that a LightningModule takes; a power cut before one ends it."""
    steps, original = [], module.training_step

    def training_step(self, batch, batch_idx):
        if self.global_step == cut_at:
            raise OSError("power cut")
        steps.append(self.global_step)
        return original(self, batch, batch_idx)

    ending = nullcontext() if cut_at is None else pytest.raises(OSError, match="power cut")
    with pytest.MonkeyPatch.context() as patch, ending:
        patch.setattr(module, "training_step", training_step)
        yield steps


def load_script(name):
    """The module of ``scripts/NAME.py``, without running it."""
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
