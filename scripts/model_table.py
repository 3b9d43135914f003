"""Print what the published networks cost and reach, as a table in Markdown.

    python scripts/model_table.py > docs/models.md

Counted on shapes alone (refine.detector.model_costs), so it takes a minute and no memory. The
paper's PQ and ours come from the opening comment of each experiment.
"""

import argparse
import re
import sys
from pathlib import Path

from refine.config import compose
from refine.config.locate import conf_dir
from refine.config.settings import TrainSettings
from refine.detector.model_costs import build_on_meta, count_costs
from refine.errors import run_script
from refine.order.head_costs import count_head_flops

NUMBERS = {"num_things": 80, "num_categories": 133}
SIZE = (800, 1344)  # 800x1333 padded to multiples of 32
IMAGES_PER_DEVICE = 2
MEASURED_FLOPS = 158.8e12
"""Operations per second of the training step that was measured (docs/performance.md)."""
ABOUT = """# Models

`python scripts/model_table.py > docs/models.md` writes this file.

| experiment | parameters | GFLOPs | RoIs | memory | images | hours | heads | PQ, paper | PQ, ours |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---|"""
NOTES = """
COCO, 133 categories. The network alone, but for the hours of heads.

- **GFLOPs**: inference on one image of 800x1333 (padded to 800x1344), convolutions and matrix
  products only, a multiply-add being two operations. Without RoIs: backbone, pyramid, proposal
  head, semantic trunk and predictor. *RoIs*: each box stage on 1000 proposals, each mask head on
  100 detections, the semantic heads of the iterations with all 80 thing categories on the canvas
  (the most there can be). Not counted: sampling (RoIAlign, ROI-Flatten, moving the taps of
  deformable convolutions), NMS, fusion.
- **Memory** of training: an estimate of the least, not a measurement; float32, 2 images of 800x1333
  a device (batch 16 on 8). Parameters, gradients and momentum; what autograd keeps for the backward
  pass, with 512 RoIs for each box stage and 128 masks for each mask head an image; three full-size
  maps of logits for one semantic loss. Weights with a frozen norm in them count for every image.
  Allocator and library workspace come on top.
- **Images** that the training sees, each many times.
- **Hours** of that training on one H200: an estimate, not a run. Operations of the training steps
  (three times those of a forward pass with the RoIs of training) at 158.8 TFLOP/s, without
  validations. `r50_panoptic_fpn` was measured at that in bf16 at batch 16 ([86.1
  images/s](performance.md#on-a-gpu)), `r50_ibpp3` between 137 and 161; deformable convolutions
  have not been measured and may be slower.
- **Heads**: hours of the heads that order instances (`stage=occlusion` and `ranking`), at the same
  speed: the frozen detector once forward with the masks of the true boxes, the heads three times.
  10 instances and 4 pairs an image are assumed: the 41 of 100 photographs of COCO that have a pair
  have 9.7 and 3.6. Decoding outlines and painting category maps on the CPU is not counted.
- **PQ, paper**: COCO val; of `x101_dcn_refine` test-dev.
"""


def read_opening(path: Path) -> str:
    """The comment that an experiment opens with, on one line."""
    lines = path.read_text().splitlines()
    comments = [line.removeprefix("#").strip() for line in lines if line.startswith("#")]
    return " ".join(comments)


def find_quality(opening: str) -> tuple[str, str]:
    """PQ as the paper prints it, and ours."""
    paper, ours = (re.search(p, opening) for p in (r"Paper.*?\bPQ (\d+\.\d)", r"Ours: ([^.]+)"))
    return paper[1] if paper else "—", ours[1] if ours else "not run"


def format_row(experiment: str, cfg: TrainSettings, quality: tuple[str, str]) -> str:
    """A row of the table."""
    network = build_on_meta(cfg.model, anchors=cfg.data.anchors, **NUMBERS)
    costs, num_images = count_costs(network, SIZE), cfg.schedule.max_steps * cfg.data.batch_size
    of_heads = 0
    for name in cfg.all_stages[1:] if cfg.stage == "all" else ():
        stage = cfg.occlusion if name == "occlusion" else cfg.ranking
        seen = stage.schedule.max_steps * stage.batch_size
        of_heads += seen * count_head_flops(network, stage, SIZE)
    memory = costs.fixed_bytes + IMAGES_PER_DEVICE * costs.image_bytes
    cells = [
        f"`{experiment}`",
        f"{costs.parameters / 1e6:.1f} M",
        f"{costs.dense_flops / 1e9:.0f}",
        f"{costs.roi_flops / 1e9:.0f}",
        f"{memory / 2**30:.1f} GiB",
        f"{num_images / 1e6:.1f} M",
        f"{num_images * costs.training_flops / MEASURED_FLOPS / 3600:.0f}",
        f"{of_heads / MEASURED_FLOPS / 3600:.1f}" if of_heads else "—",
        *quality,
    ]
    return "| " + " | ".join(cells) + " |"


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    openings = {p.stem: read_opening(p) for p in sorted((conf_dir() / "experiment").glob("*.yaml"))}
    published = [name for name, text in openings.items() if "Paper" in text]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("experiments", nargs="*", default=published, help="all of the paper's")
    args = parser.parse_args(argv)

    def show() -> None:
        print(ABOUT)
        for name in args.experiments:
            cfg: TrainSettings = compose("train", [f"experiment={name}"])
            print(format_row(name, cfg, find_quality(openings[name])), flush=True)
        print(NOTES, end="")

    return run_script(show)


if __name__ == "__main__":
    sys.exit(main())
