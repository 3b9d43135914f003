"""The paper's figures 2 and 5 from a prediction cache: heuristic, SRM, OCFusion, SOE + UE.

    python scripts/figures.py CACHE --out figures

CACHE is what python -m refine.evaluate ... save_predictions=CACHE left. The images are those that
change most from the heuristic to SOE + UE: figure 5 shows them whole, figure 2 what changes.
A panel whose head is not in the cache says so.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from refine.config.instantiate import to_options
from refine.errors import run_script
from refine.options import FusionOptions
from refine.report.cached_images import CachedImages
from refine.report.figure_panels import (
    caption_panels,
    draw_figure,
    drop_unavailable,
    find_changed_images,
    list_panels,
)
from refine.viz.image_files import write_png

IS_CLOSE_UP = {"figure2": True, "figure5": False}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("predictions", metavar="CACHE", type=Path)
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of the pictures")
    parser.add_argument("--images", type=int, default=4, help="that change most")
    parser.add_argument("--data-root", type=Path, help="default: the cache's")
    parser.add_argument("--erase-below", type=float, help="threshold of UE; default: the cache's")
    return parser.parse_args(argv)


def draw(args: argparse.Namespace) -> list[str]:
    """Draw the figures; lines that say what was drawn."""
    images = CachedImages(args.predictions, data_root=args.data_root)
    header = images.reader.header
    fusion = to_options(header.checkpoint["config"]["fusion"], FusionOptions)
    if args.erase_below is not None:
        erasing = replace(fusion.unknown_erasing, score_thresh=args.erase_below)
        fusion = replace(fusion, unknown_erasing=erasing)
    panels = drop_unavailable(list_panels(fusion), header)
    changes = find_changed_images(images, panels, number=args.images)
    lines = ["panels: image, ground truth, " + ", ".join(caption_panels(panels))]
    if not changes:
        lines.append("no image changes from the first to the last of them")
    for change in changes:
        for figure, is_close_up in IS_CLOSE_UP.items():
            path = args.out / f"{figure}_{change.image_id}.png"
            picture = draw_figure(images, change.image_id, panels, is_close_up=is_close_up)
            write_png(path, picture)
            lines.append(f"{path}: {100 * change.before:.1f} -> {100 * change.after:.1f}")
    return lines


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_script(lambda: print("\n".join(draw(parse_args(argv)))))


if __name__ == "__main__":
    sys.exit(main())
