"""The whole inference of Panoptic-FPN beside detectron2's own program, on the same weights.

    python scripts/benchmark/beside_detectron2.py THEIRS.pkl OURS.ckpt PHOTO [--fast] [--threads N]

THEIRS.pkl is a checkpoint of ``panoptic_fpn_R_50_3x``, OURS.ckpt what ``refine.convert`` made of it
(``random_state`` in ``tests/oracles/detectron2_names.py`` draws one). The photo is resized to
800x1333, the answer has 480x800. detectron2 0.6 has to be importable; its compiled part is not used
by this network. From pixels in memory to the panoptic map; all masks are pasted by detectron2 only.
"""

import argparse
import pickle
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmark.case import Case, extra_mib, measure
from refine.config import compose
from refine.data.collate import collate
from refine.runs.checkpoint import read_checkpoint
from refine.runs.restore import restore_pipeline
from refine.types import Sample

ORIGINAL = (480, 800)


def prepare_ours(files: list[str], threads: int, *, fast: bool = False) -> Callable[[], Any]:
    """One inference of ours: evidence and panoptic map."""
    torch.set_num_threads(threads)
    checkpoint = read_checkpoint(Path(files[1]))
    options: Any = compose("evaluate", [])
    pipeline = restore_pipeline(checkpoint, options.choose_sections(checkpoint.config))
    pipeline.computes_in_half = fast
    image = _read(files[2])
    sample = Sample(image=image, image_id=1, file_name=files[2], original_size=ORIGINAL)
    batch = collate([sample])
    return lambda: pipeline.predict(batch)[0]


def prepare_theirs(files: list[str], threads: int) -> Callable[[], Any]:
    """One inference of detectron2's: its dictionary."""
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore")
    for old, new in (("LINEAR", "BILINEAR"), ("CUBIC", "BICUBIC")):  # of Pillow's before 10
        setattr(Image, old, getattr(Image, new))
    import detectron2

    detectron2._C = sys.modules["detectron2._C"] = ModuleType("detectron2._C")
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    zoo = Path(detectron2.__file__).parent / "model_zoo/configs/COCO-PanopticSegmentation"
    config = get_cfg()
    config.merge_from_file(str(zoo / "panoptic_fpn_R_50_3x.yaml"))
    config.MODEL.DEVICE = "cpu"
    model = build_model(config).eval()
    arrays = pickle.loads(Path(files[0]).read_bytes())["model"]
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    assert not model.load_state_dict(state, strict=False).missing_keys
    image = _read(files[2]).flip(0).contiguous()  # BGR
    given = {"image": image, "height": ORIGINAL[0], "width": ORIGINAL[1]}

    def run() -> Any:
        with torch.no_grad():
            return model([given])[0]

    return run


def check(ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
    """Same scores, and the same segments in all but a thousandth of the pixels."""
    (evidence, panoptic), expected = ours(), theirs()
    scores = expected["instances"].scores
    torch.testing.assert_close(evidence.raw.scores, scores, rtol=1e-4, atol=1e-4)
    pairs = np.stack([panoptic.segment_map.ravel(), expected["panoptic_seg"][0].numpy().ravel()])
    _, counts = np.unique(pairs, axis=1, return_counts=True)
    segments = len(np.unique(pairs[0]))
    assert np.sort(counts)[-segments:].sum() > 0.999 * pairs.shape[1]
    print(f"{len(scores)} detections, {segments} segments on both sides")


def _read(photo: str) -> torch.Tensor:
    pixels = Image.open(photo).convert("RGB").resize((1333, 800), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)


def main() -> None:
    """Print medians of processor time and extra memory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs=3, metavar="FILE", help="THEIRS.pkl OURS.ckpt PHOTO")
    parser.add_argument("--fast", action="store_true", help="bfloat16 on our side")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    of_ours = partial(prepare_ours, fast=given.fast)
    ours, theirs = (p(given.files, given.threads) for p in (of_ours, prepare_theirs))
    if not given.fast:
        check(ours, theirs)
    sides: dict[str, Any] = {"ours": ours, "peer": theirs, "clock": time.process_time}
    medians = measure(Case(name="detectron2", goal=None, rounds=given.rounds, **sides), 0)
    memory = [extra_mib(p, given.files, given.threads) for p in (of_ours, prepare_theirs)]
    for name, ms, mib in zip(("ours", "detectron2"), medians, memory, strict=True):
        print(f"{name:<12} {ms:8.0f} ms {mib:6.0f} MiB extra")
    ratios = [medians[0] / medians[1], memory[0] / memory[1]]
    print("ours: {:.2f} of the time, {:.2f} of the memory".format(*ratios))


if __name__ == "__main__":
    main()
