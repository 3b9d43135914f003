"""What each part of the method adds (paper, table 3), from the runs of ``sweep=components``."""

from collections.abc import Sequence

from refine.report.bootstrap import Interval, bootstrap_difference, bootstrap_run
from refine.report.runs import Run

PARTS = (
    ("baseline", "baseline"),
    ("ibpp", "+ IBPP"),
    ("ibpp_soe", "+ SOE"),
    ("ibpp_soe_ue", "+ UE"),
)
"""Names of ``conf/component/``, and what they are called."""

_KEYS = ("pq", "pq_things", "pq_stuff")


def to_table(rows: Sequence[tuple[str, Run]]) -> str:
    """Markdown: PQ x 100 of every row, and how much it adds to the one before.

    Args:
        rows: Title and run, on the same images.

    Raises:
        RefineError: The runs have other images or categories.
    """
    lines = [
        "| x 100 | PQ | things | stuff | PQ added, 95 % interval |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    before: Run | None = None
    for title, run in rows:
        single = bootstrap_run(run)
        added = "" if before is None else _format(bootstrap_difference(before, run)["pq"])
        values = " | ".join(f"{100 * single[key].value:.1f}" for key in _KEYS)
        lines.append(f"| {title} | {values} | {added} |")
        before = run
    count = len(rows[0][1].image_ids)
    note = f"{count} images. Intervals are over images (paired bootstrap), not over trainings."
    return "\n".join([*lines, "", note]) + "\n"


def _format(interval: Interval) -> str:
    value, low, high = (100 * v for v in (interval.value, interval.low, interval.high))
    verdict = " (not distinguishable from 0)" if interval.includes_zero else ""
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]{verdict}"
