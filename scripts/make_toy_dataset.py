"""Write the toy dataset (COCO's layout) and print what its scenes are like."""

import argparse
import sys
from collections import Counter
from pathlib import Path

from refine.errors import RefineError
from refine.options import ToyOptions
from refine.toy.dataset import write_toy_dataset
from refine.toy.objects import TOY_CATEGORIES
from refine.toy.statistics import report_shares


def _parse_args(argv: list[str] | None) -> argparse.Namespace:
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
    parser.add_argument("--version", type=int, default=2, help="1 or 2: which scenes")
    parser.add_argument("--masks", default=defaults.masks, help="of instances: full or visible")
    parser.add_argument("--num-processes", type=int, default=1)
    return parser.parse_args(argv)


def describe(counts: Counter[str]) -> str:
    """The statistics as lines of text."""
    rows = [("scenes", f"{counts['scenes']}"), ("overlapping pairs", f"{counts['pairs']}")]
    rows += [(name, f"{share:.1%}") for name, share in report_shares(counts).items()]
    segments = [f"{c.name} {counts[f'segments/{c.name}']}" for c in TOY_CATEGORIES]
    rows.append(("segments", ", ".join(segments)))
    return "\n".join(f"{name:<36}{value}" for name, value in rows)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parse_args(argv)
    names = ("seed", "num_train", "num_val", "height_px", "width_px", "crowded", "version", "masks")
    try:
        options = ToyOptions(**{name: getattr(args, name) for name in names})
        counts = write_toy_dataset(args.root, options, num_processes=args.num_processes)
    except (RefineError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(describe(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
