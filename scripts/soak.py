"""Kills trainings at random moments, watches the memory of an evaluation, kills a partner.

python scripts/soak.py [--kills 30] [--images 1000] [--folder FOLDER] [--seed 0]
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

import torch

TINY = shlex.split(
    "experiment=toy model.backbone.fpn_channels=32 model.semantic.channels=32 data.batch_size=2 "
    "model.roi.box_fc_channels=32 model.roi.mask_channels=32 compute_ap=false data.root=toy "
    "data.toy.num_train=16 data.toy.height_px=64 data.toy.width_px=96 trainer=cpu "
    "data.image.train_short_sides_px=[64] data.image.eval_short_side_px=64 data.num_workers=0 "
    "data.image.max_long_side_px=96 callbacks.progress=null trainer.val_check_interval=10 "
    "callbacks.last.every_n_train_steps=1 trainer.max_steps=40 trainer.limit_val_batches=2"
)


def start(command: str, name: str, *arguments: str) -> Any:
    """A process of ``python -m refine.COMMAND`` with its results in the folder ``name``."""
    words = [sys.executable, "-m", f"refine.{command}", *arguments, f"hydra.run.dir={name}"]
    return subprocess.Popen(words, stdout=Path(f"{name}.log").open("w"), stderr=subprocess.STDOUT)


def finish(process: Any, name: str) -> Any:
    """The last weights in the folder of a process, which has to end well."""
    assert process.wait() == 0, Path(f"{name}.log").read_text()[-2000:]
    path = Path(name, "checkpoints", "last.ckpt")
    return torch.load(path, weights_only=True)["state_dict"] if path.exists() else None


def kill_at_random(kills: int, images: int, dice: random.Random) -> tuple[int, int, int]:
    """Trainings that ended with the right weights, all trainings, kills within a write."""
    given = [*TINY, f"data.toy.num_val={images}"]
    finish(start("train", "scenes", *given), "scenes")  # the first one writes the scenes
    begin = time.monotonic()
    whole = finish(start("train", "whole", *given), "whole")
    length, right, trainings, within = time.monotonic() - begin, 0, 0, 0
    while kills > 0:
        trainings, process = trainings + 1, None
        while process is None or process.returncode == -9:
            process, is_within = start("train", "killed", *given), False
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
    """How much more memory the second half of an evaluation takes than the first one, in MB."""
    process, sizes = start("evaluate", "evaluation", "ckpt_path=whole/checkpoints/last.ckpt"), [0.0]
    while process.poll() is None:
        words = Path(f"/proc/{process.pid}/status").read_text().partition("VmRSS:")[2].split()
        sizes += [int(words[0]) / 1024] if words else []
        time.sleep(0.2)
    finish(process, "evaluation")
    return max(sizes[len(sizes) // 2 :]) - max(sizes[: len(sizes) // 2])


def kill_partner(images: int) -> float:
    """Seconds from the death of one of two processes to the end of the other."""
    more = f"trainer=ddp_cpu trainer.max_steps=100000 data.toy.num_val={images}".split()
    process = start("train", "two", *TINY, *more)
    while not Path("two/checkpoints/last.ckpt").exists():
        time.sleep(0.2)
        assert process.poll() is None, Path("two.log").read_text()[-2000:]
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), 9)
    begin = time.monotonic()
    process.wait(600)
    return time.monotonic() - begin


def soak(kills: int, images: int, seed: int, temporary: Path) -> bool:
    """Whether everything holds; the figures are printed."""
    right, trainings, within = kill_at_random(kills, images, random.Random(seed))
    left = sum(path.is_file() for path in temporary.rglob("*"))
    print(f"{kills} kills, {within} within a write; {right} of {trainings} runs right; {left=}")
    growth = measure_growth()
    print(f"{images} images: memory grew by {growth:.0f} MB")
    seconds = kill_partner(images)
    print(f"two processes, one killed: the other one ended after {seconds:.0f} s")
    return right == trainings and not left and growth <= 50 and seconds <= 60


def main() -> int:
    """0 if everything held."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, value in (("kills", 30), ("images", 1000), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    elsewhere = "best on another file system than the temporary folder, where a move is a copy"
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help=elsewhere)
    args, make = parser.parse_args(), tempfile.TemporaryDirectory
    with make() as temporary, make(dir=args.folder) as folder, contextlib.chdir(folder):
        os.environ |= {"TMPDIR": temporary, "OMP_NUM_THREADS": "1"}
        return 0 if soak(args.kills, args.images, args.seed, Path(temporary)) else 1


if __name__ == "__main__":
    sys.exit(main())
