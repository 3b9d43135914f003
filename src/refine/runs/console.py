"""Lines and tables on the console."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from refine.metrics.functional import GroupQuality
from refine.metrics.quality_table import to_cells

_LEAST_WIDTH = 50  # of the table: a narrower terminal would cut its figures


def say(text: str) -> None:
    """Print a line, unwrapped."""
    Console().print(text, soft_wrap=True, highlight=False, markup=False)


def list_some(names: Sequence[str], most: int = 16) -> str:
    """Names in a line, and how many more there are than ``most``."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def print_table(groups: Mapping[str, GroupQuality], metrics: Mapping[str, float | int]) -> None:
    """PQ, SQ and RQ over all, things and stuff, times 100; then the other figures at hand."""
    table = Table("", title="panoptic quality x 100")
    for name in ("PQ", "SQ", "RQ", "categories"):
        table.add_column(name, justify="right")
    for row in to_cells(groups):
        table.add_row(*row)
    Console(width=max(Console().width, _LEAST_WIDTH)).print(table)
    others = [f"{metrics['num_images']} images"]
    others += [
        f"{name} {100 * metrics[key]:.1f}"
        for key, name in (("ap_box", "AP^b"), ("ap_mask", "AP^m"))
        if key in metrics
    ]
    if "consensus_gap" in metrics:
        others.append(f"consensus gap {100 * metrics['consensus_gap']:.2f} %")
    if metrics.get("panoptic_only"):
        others.append("panoptic only: weak detections left out, no AP")
    if "images_per_second" in metrics:
        others.append(f"{metrics['images_per_second']:.2f} images/s")
    say(", ".join(others))
