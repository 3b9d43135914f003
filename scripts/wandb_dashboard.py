"""Create or update a Weights & Biases workspace that shows the ablations of a project.

    python scripts/wandb_dashboard.py ENTITY/PROJECT
    python scripts/wandb_dashboard.py ENTITY/PROJECT --group sweep_sigma --update URL
    python scripts/wandb_dashboard.py ENTITY/PROJECT --dry-run

The first prints the address of a new saved view; with it as URL, that view is rewritten.
--dry-run prints what the workspace would show, without network and without W&B. The charts stand in
wandb_dashboard.yaml.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import yaml

from refine.errors import RefineError, run_script

CHARTS = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
"""What the workspace shows; the file explains itself."""


def build_workspace(
    place: dict[str, str], name: str, *, group: str | None = None, url: str | None = None
) -> Any:
    """The dashboard as an object of the ``wandb-workspaces`` library, not saved yet.

    Args:
        place: ``entity`` and ``project``.
        name: Name of the view.
        group: Show the runs of this sweep only.
        url: Address of a saved view to rewrite.
    """
    ws, wr = (_load(f"wandb_workspaces.{part}") for part in ("workspaces", "reports.v2"))
    workspace = ws.Workspace(**place) if url is None else ws.Workspace.from_url(url)
    workspace.name = name
    workspace.runset_settings = ws.RunsetSettings(
        pinned_columns=CHARTS["columns"],
        filters="" if group is None else ws.And(ws.Metric("Group") == group),
    )
    workspace.sections = [
        ws.Section(name=title, panels=[_build_panel(p, wr) for p in panels], is_open=True)
        for title, panels in CHARTS["sections"].items()
    ]
    return workspace


def _build_panel(panel: dict[str, Any], wr: Any) -> Any:
    title, keys, by = panel["title"], panel["keys"], panel.get("by")
    builders = {
        "bars": lambda: wr.BarPlot(
            title=title, metrics=keys, groupby=wr.Config(by), groupby_aggfunc="mean"
        ),
        "scatter": lambda: wr.ScatterPlot(
            title=title, x=wr.Config(by), y=wr.SummaryMetric(keys[0]), log_x=panel.get("log", False)
        ),
        "lines": lambda: wr.LinePlot(title=title, x=CHARTS["step"], y=keys),
        "category_bars": lambda: wr.CustomChart(
            query={"summaryTable": {"tableKey": keys[0]}},
            chart_name="wandb/bar/v0",
            chart_fields={"label": "name", "value": "pq"},
            chart_strings={"title": title},
        ),
        "table": lambda: wr.WeavePanelSummaryTable(table_name=keys[0]),
        "media": lambda: wr.MediaBrowser(title=title, media_keys=keys, num_columns=1),
    }
    return builders[panel["kind"]]()


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        package = name.partition(".")[0]
        fix = "pip install 'refine-panoptic[wandb]' (--dry-run does without)"
        raise RefineError(f"{package} is not installed: {fix}") from None


def show_or_save(args: argparse.Namespace) -> None:
    """Print the specification, or write the dashboard and print its address.

    Raises:
        RefineError: The project is not named as ENTITY/PROJECT, or W&B refuses.
    """
    place = dict(zip(("entity", "project"), args.project.split("/"), strict=False))
    if args.project.count("/") != 1 or not all(place.values()):
        raise RefineError(f"{args.project}: expected ENTITY/PROJECT, as in the project's address")
    if args.dry_run:
        print(json.dumps({**place, "name": args.name, "group": args.group, **CHARTS}, indent=1))
        return
    refusals = (OSError, ValueError, _load("wandb").Error)
    try:
        workspace = build_workspace(place, args.name, group=args.group, url=args.update)
        workspace.save()
    except refusals as error:
        raise RefineError(f"W&B: {' '.join(str(error).split())}") from None
    print(workspace.url)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("project", metavar="ENTITY/PROJECT")
    parser.add_argument("--name", default="Ablations", help="name of the view (%(default)s)")
    parser.add_argument("--group", help="show the runs of this sweep only")
    parser.add_argument("--update", metavar="URL", help="rewrite this saved view")
    parser.add_argument("--dry-run", action="store_true", help="print the specification as JSON")
    args = parser.parse_args(argv)
    return run_script(lambda: show_or_save(args))


if __name__ == "__main__":
    sys.exit(main())
