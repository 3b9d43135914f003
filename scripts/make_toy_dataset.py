"""Write the toy dataset (COCO's layout) and print what its scenes are like."""

import argparse
import sys
from pathlib import Path

from refine.errors import RefineError
from refine.options import ToyOptions
from refine.toy.dataset import ToyReport, write_toy_dataset


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    defaults = ToyOptions()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("root", type=Path, help="folder to make; missing or empty")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--num-train", type=int, default=defaults.num_train, help="scenes")
    parser.add_argument("--num-val", type=int, default=defaults.num_val, help="scenes")
    parser.add_argument("--height-px", type=int, default=defaults.height_px)
    parser.add_argument("--width-px", type=int, default=defaults.width_px)
    parser.add_argument("--crowded", action="store_true", help="things hide more of each other")
    parser.add_argument("--num-processes", type=int, default=1)
    return parser.parse_args(argv)


def describe(report: ToyReport) -> str:
    """The report as lines of text."""
    rows = [
        ("scenes", f"{report.num_scenes} in {report.seconds:.1f} s"),
        ("with an overlap of .2 or more", f"{report.overlap_share:.1%}"),
        ("without things", f"{report.bare_share:.1%}"),
        ("with a crowd", f"{report.crowd_share:.1%}"),
        ("overlapping pairs", f"{report.num_pairs}"),
        ("  smaller on top", f"{report.smaller_on_top:.1%}"),
        ("  lower on top", f"{report.lower_on_top:.1%}"),
        ("  order known from the categories", f"{report.category_known:.1%}"),
        ("  right by categories or a coin", f"{report.category_right:.1%}"),
        ("look-alike stuff told by a thing", f"{report.lookalikes_told:.1%}"),
        ("void pixels", f"{report.void_share:.1%}"),
        ("segments", ", ".join(f"{n} {count}" for n, count in report.num_segments.items())),
    ]
    return "\n".join(f"{name:<36}{value}" for name, value in rows)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parse_args(argv)
    names = ("seed", "num_train", "num_val", "height_px", "width_px", "crowded")
    try:
        options = ToyOptions(**{name: getattr(args, name) for name in names})
        report = write_toy_dataset(args.root, options, num_processes=args.num_processes)
    except (RefineError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(describe(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
