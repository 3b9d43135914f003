"""Processor time by instances, pixels and images: fusion with Unknown Erasing, and PQ. A table.

    python scripts/benchmark/scaling.py

The instances cover the image three times, whatever their number. Medians of three, one thread.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy is imported
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np  # noqa: E402 - after the settings
import torch  # noqa: E402

from benchmark.scenes import (  # noqa: E402
    NUM_CATEGORIES,
    NUM_THINGS,
    make_detections,
    make_semantic_logits,
)
from refine.fusion.evidence import Evidence  # noqa: E402
from refine.fusion.fuse_evidence import fuse  # noqa: E402
from refine.metrics.functional import match_segments  # noqa: E402
from refine.options import (  # noqa: E402
    FusionOptions,
    MergeOptions,
    RelationsOptions,
    UnknownErasingOptions,
)
from refine.types import GroundTruth, RawPrediction  # noqa: E402

OPTIONS = FusionOptions(
    unknown_erasing=UnknownErasingOptions(mode="score"),
    relations=RelationsOptions(kind="area"),
    merge=MergeOptions(score_thresh=0.0),
)
SIZES = ((400, 666), (800, 1333), (1600, 2666))
COUNTS = (10, 30, 100, 300, 1000)


def make_prediction(size: tuple[int, int], count: int) -> RawPrediction:
    """An image with this many instances."""
    masks, boxes = (
        torch.from_numpy(np.asarray(part)) for part in make_detections(size, count=count)
    )
    return RawPrediction(
        boxes=boxes,
        scores=torch.linspace(0.99, 0.5, count),
        labels=torch.arange(count) % NUM_THINGS,
        mask_logits=masks.logit(eps=1e-6),
        semantic_logits=make_semantic_logits(size),
        image_size=size,
        original_size=size,
    )


def measure(run: Callable[[], object]) -> float:
    """Milliseconds of processor time."""
    times = []
    for _ in range(3):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return 1e3 * sorted(times)[1]


def describe(size: tuple[int, int], count: int) -> str:
    """A row of the table."""
    raw, limit = make_prediction(size, count), 4096 * size[0] * size[1] // (800 * 1333)

    def run_fusion() -> object:
        return fuse(Evidence(raw, num_things=NUM_THINGS), OPTIONS, stuff_area_limit_px=limit)

    found = fuse(Evidence(raw, num_things=NUM_THINGS), OPTIONS, stuff_area_limit_px=limit)
    truth = GroundTruth(segment_map=np.roll(found.segment_map, 3, axis=1), segments=found.segments)
    score = measure(lambda: match_segments(found, truth, num_categories=NUM_CATEGORIES))
    cells = (f"{size[0]}x{size[1]}", count, len(found.segments), f"{measure(run_fusion):.0f}")
    return "| " + " | ".join(map(str, (*cells, f"{score:.1f}"))) + " |"


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print("| image | instances | segments | fusion, ms | PQ, ms |\n|---|---:|---:|---:|---:|")
    for size, count in [(SIZES[1], n) for n in COUNTS] + [(s, 100) for s in SIZES]:
        print(describe(size, count), flush=True)


if __name__ == "__main__":
    main()
