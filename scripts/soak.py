"""Kills trainings at random moments, watches the memory of an evaluation, kills a partner.

python scripts/soak.py [--kills 30] [--images 1000] [--seed 0] [--folder ON_ANOTHER_FILE_SYSTEM]
"""

import argparse
import contextlib
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from refine.config import compose
from refine.training.detector_module import DetectorModule
from refine.workflows.evaluate_checkpoint import evaluate

PAGE = os.sysconf("SC_PAGE_SIZE")
TINY = shlex.split(
    "experiment=toy model.backbone.fpn_channels=32 model.semantic.channels=32 data.batch_size=2 "
    "model.roi.box_fc_channels=32 model.roi.mask_channels=32 compute_ap=false data.root=toy "
    "data.toy.num_train=16 data.toy.height_px=64 data.toy.width_px=96 trainer=cpu "
    "data.image.train_short_sides_px=[64] data.image.eval_short_side_px=64 data.num_workers=0 "
    "data.image.max_long_side_px=96 callbacks.progress=null trainer.val_check_interval=10 "
    "callbacks.last.every_n_train_steps=1 trainer.max_steps=40 trainer.limit_val_batches=2"
)


def start(name: str, *arguments: str) -> Any:
    """A training with its results in the folder ``name``."""
    words = [sys.executable, "-m", "refine.train", *arguments, f"hydra.run.dir={name}"]
    return subprocess.Popen(words, stdout=Path(f"{name}.log").open("w"), stderr=subprocess.STDOUT)


def finish(process: Any, name: str) -> Any:
    """The last weights in the folder of a process, which has to end well."""
    assert process.wait() == 0, Path(f"{name}.log").read_text()[-2000:]
    return torch.load(Path(name, "checkpoints", "last.ckpt"), weights_only=True)["state_dict"]


def kill_at_random(kills: int, dice: random.Random) -> tuple[int, int, int]:
    """Trainings that ended with the right weights, all trainings, kills within a write."""
    finish(start("scenes", *TINY), "scenes")  # the first one writes the scenes
    begin, whole = time.monotonic(), finish(start("whole", *TINY), "whole")
    length, right, trainings, within = time.monotonic() - begin, 0, 0, 0
    while kills > 0:
        trainings, process = trainings + 1, None
        while process is None or process.returncode == -9:
            process, is_within = start("killed", *TINY), False
            end, waits = time.monotonic() + dice.uniform(0, length), dice.random() < 0.5
            while process.poll() is None:
                time.sleep(0.05 if time.monotonic() < end else 0.0005)
                is_within = any(Path("killed/checkpoints").glob(".*.ckpt.*.part"))
                if kills > 0 and time.monotonic() > end and (is_within or not waits):
                    process.kill()
            if process.wait() == -9:
                kills, within = kills - 1, within + is_within
        right += all(torch.equal(v, whole[key]) for key, v in finish(process, "killed").items())
        assert not any(Path("killed").rglob("*.part")), "parts of files are left"
        shutil.rmtree("killed")
    return right, trainings, within


def measure_growth() -> float:
    """By how many MB an evaluation's memory grows after its first 50 images."""
    sizes, original = list[float](), DetectorModule.validation_step
    given = ["ckpt_path=whole/checkpoints/last.ckpt", "run_dir=evaluation", "trainer=cpu"]

    def validation_step(module: DetectorModule, batch: Any) -> Any:
        sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6)
        return original(module, batch)

    with patch.object(DetectorModule, "validation_step", validation_step):
        evaluate(compose("evaluate", [*given, "trainer.enable_progress_bar=false"]))
    return max(sizes[50:]) - max(sizes[:50])


def kill_partner() -> float:
    """Seconds from the death of one of two processes to the end of the other."""
    process = start("two", *TINY, "trainer=ddp_cpu", "trainer.max_steps=100000")
    while not Path("two/checkpoints/last.ckpt").exists():
        time.sleep(0.2)
        assert process.poll() is None, Path("two.log").read_text()[-2000:]
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), 9)
    begin = time.monotonic()
    process.wait(600)
    return time.monotonic() - begin


def main() -> int:
    """0 if everything held; the figures are printed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, value in (("kills", 30), ("images", 1000), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    args, make = parser.parse_args(), tempfile.TemporaryDirectory
    with make() as temporary, make(dir=args.folder) as folder, contextlib.chdir(folder):
        os.environ |= {"TMPDIR": temporary, "OMP_NUM_THREADS": "1"}
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{folder}/torch"  # one for a user, made by torch
        TINY.append(f"data.toy.num_val={args.images}")
        right, trainings, within = kill_at_random(args.kills, random.Random(args.seed))
        left = len([*Path(temporary).rglob("*")])
        print(f"{args.kills} kills, {within} in a write; {right} of {trainings} right; {left=}")
        print(f"evaluation: memory grew by {(growth := measure_growth()):.0f} MB")
        print(f"two processes, one killed: the other ended after {(wait := kill_partner()):.0f} s")
    return 0 if right == trainings and not left and growth <= 50 and wait <= 60 else 1


if __name__ == "__main__":
    sys.exit(main())
