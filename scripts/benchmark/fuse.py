"""Stage ``fuse``: ``refine.fuse`` against the official combination of result files, files to files.

The images are the 42 of COCO val in ``REFINE_COCO_ROOT``; the results are their truth, and what a
network finds in them. Both programs run in one process, or both in two more, which share the images
five times over: to start processes takes as long as the 42.
"""

import io
import os
import tempfile
import time
from collections.abc import Iterator
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
    return [
        case
        for name in ("truth", "predicted")
        for num_processes in (1, 2)
        for case in _build(name, num_processes)
    ]


def _build(name: str, num_processes: int) -> Iterator[Case]:
    folder = tempfile.TemporaryDirectory()
    root, annotations = Path(folder.name), Path(os.environ["REFINE_COCO_ROOT"]) / "annotations"
    copies, num_workers = (1, 0) if num_processes == 1 else (5, num_processes)
    count = write_result_files(annotations, root, are_predicted=name == "predicted", copies=copies)
    given = [f"{key}={root}/{key}.json" for key in ("instances", "semantic")]
    given += [f"images_json={root}/images.json", f"out={root}/ours", f"num_workers={num_workers}"]
    settings = compose("fuse", given)

    # both write into fresh folders: to replace files takes longer
    def ours() -> Path:
        return _fuse(settings, Path(tempfile.mkdtemp(dir=root)))

    def peer() -> Path:
        return combine(root, Path(tempfile.mkdtemp(dir=root)), num_processes=num_processes)

    def check() -> None:
        assert folder.name, "kept while the case is"
        found, expected = ours(), peer()
        for path in expected.glob("*.png"):
            paths = path, found / "panoptic" / path.name
            a, b = (decode_segment_png(p.read_bytes(), source=str(p)) for p in paths)
            pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
            assert pairs.shape[1] == len(np.unique(a)) == len(np.unique(b)), path.name

    for clock in CLOCKS if num_processes == 1 else ["wall"]:  # of this process alone
        yield Case(
            name=f"{count} images, {name}, {clock}{', 2 processes' * (num_processes == 2)}",
            ours=ours,
            peer=peer,
            check=check,
            items=count,
            goal=GOAL,
            clock=CLOCKS[clock],
        )


def _fuse(settings: Any, out: Path) -> Path:
    with redirect_stdout(io.StringIO()):
        fuse_results(replace(settings, out=str(out)))
    return out
