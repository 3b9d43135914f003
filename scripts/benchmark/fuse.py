"""Stage ``fuse``: ``refine.fuse`` against the official combination of result files, files to files.

The images are the 42 of COCO val in ``REFINE_COCO_ROOT``; the results are their truth, and what a
network finds in them. Both programs run on one core.
"""

import io
import os
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.case import Case
from benchmark.combine_script import combine
from benchmark.result_files import write_result_files
from refine.coco_format.png import decode_segment_png
from refine.config import compose
from refine.workflows.fuse_results import fuse_results

GOAL = 5.0
CLOCKS = {"CPU": time.process_time, "wall": time.perf_counter}


def build() -> list[Case]:
    """The whole command; nothing without real images."""
    if "REFINE_COCO_ROOT" not in os.environ:
        print("fuse: REFINE_COCO_ROOT is not set")
        return []
    return [*_build("truth", are_predicted=False), *_build("predicted", are_predicted=True)]


def _build(name: str, *, are_predicted: bool) -> list[Case]:
    folder = tempfile.TemporaryDirectory()
    root, annotations = Path(folder.name), Path(os.environ["REFINE_COCO_ROOT"]) / "annotations"
    count = write_result_files(annotations, root, are_predicted=are_predicted)
    given = [f"{key}={root}/{key}.json" for key in ("instances", "semantic")]
    settings = compose("fuse", [*given, f"images_json={root}/images.json", f"out={root}/ours"])

    # both write into fresh folders: to replace files takes longer
    def ours() -> Path:
        return _fuse(settings, Path(tempfile.mkdtemp(dir=root)))

    def peer() -> Path:
        return combine(root, Path(tempfile.mkdtemp(dir=root)))

    def check() -> None:
        assert folder.name, "kept while the case is"
        found, expected = ours(), peer()
        for path in expected.glob("*.png"):
            paths = path, found / "panoptic" / path.name
            a, b = (decode_segment_png(p.read_bytes(), source=str(p)) for p in paths)
            pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
            assert pairs.shape[1] == len(np.unique(a)) == len(np.unique(b)), path.name

    return [
        Case(
            name=f"{count} images, {name}, {clock}",
            ours=ours,
            peer=peer,
            check=check,
            items=count,
            goal=GOAL,
            clock=CLOCKS[clock],
        )
        for clock in CLOCKS
    ]


def _fuse(settings: Any, out: Path) -> Path:
    with redirect_stdout(io.StringIO()):
        fuse_results(replace(settings, out=str(out)))
    return out
