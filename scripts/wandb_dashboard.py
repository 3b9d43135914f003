"""Create or update a Weights & Biases workspace that shows the ablations of a project.

    python scripts/wandb_dashboard.py ENTITY/PROJECT
    python scripts/wandb_dashboard.py ENTITY/PROJECT --group sweep_sigma --update URL
    python scripts/wandb_dashboard.py ENTITY/PROJECT --dry-run

The first prints the address of a new saved view; with it as URL, that view is rewritten.
--dry-run prints what the workspace would show, without network and without W&B.
"""

import argparse
import importlib
import json
import sys
from typing import Any

from refine.errors import RefineError, run_script
from refine.report.dashboard import STEP, Dashboard, Panel, describe_dashboard


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    description, _, _ = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("project", metavar="ENTITY/PROJECT")
    parser.add_argument("--name", default="Ablations", help="of the view (%(default)s)")
    parser.add_argument("--group", help="show the runs of this sweep only")
    parser.add_argument("--update", metavar="URL", help="rewrite this saved view")
    parser.add_argument("--dry-run", action="store_true", help="print the specification as JSON")
    return parser.parse_args(argv)


def build_workspace(dashboard: Dashboard, *, url: str | None = None) -> Any:
    """The dashboard as an object of the ``wandb-workspaces`` library, not saved yet.

    Args:
        dashboard: What it shows.
        url: Of a saved view to rewrite.
    """
    ws, wr = _load("wandb_workspaces.workspaces"), _load("wandb_workspaces.reports.v2")
    of_group = "" if dashboard.group is None else ws.And(ws.Metric("Group") == dashboard.group)
    place = {"entity": dashboard.entity, "project": dashboard.project}
    workspace = ws.Workspace(**place) if url is None else ws.Workspace.from_url(url)
    workspace.name = dashboard.name
    workspace.runset_settings = ws.RunsetSettings(
        pinned_columns=list(dashboard.columns), filters=of_group
    )
    workspace.sections = [
        ws.Section(name=s.name, panels=[_build_panel(p, wr) for p in s.panels], is_open=True)
        for s in dashboard.sections
    ]
    return workspace


def _build_panel(panel: Panel, wr: Any) -> Any:
    title, keys, key, by = panel.title, list(panel.keys), panel.keys[0], panel.by
    builders = {
        "bars": lambda: wr.BarPlot(
            title=title, metrics=[key], groupby=wr.Config(by), groupby_aggfunc="mean"
        ),
        "scatter": lambda: wr.ScatterPlot(
            title=title, x=wr.Config(by), y=wr.SummaryMetric(key), log_x=panel.is_log
        ),
        "lines": lambda: wr.LinePlot(title=title, x=STEP, y=keys),
        "category_bars": lambda: wr.CustomChart(
            query={"summaryTable": {"tableKey": key}},
            chart_name="wandb/bar/v0",
            chart_fields={"label": "name", "value": "pq"},
            chart_strings={"title": title},
        ),
        "table": lambda: wr.WeavePanelSummaryTable(table_name=key),
        "media": lambda: wr.MediaBrowser(title=title, media_keys=keys, num_columns=1),
    }
    return builders[panel.kind]()


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise RefineError(
            f"{name.split('.')[0]} is not installed: pip install 'refine-panoptic[wandb]' "
            "(--dry-run does without)"
        ) from None


def save(dashboard: Dashboard, *, url: str | None) -> str:
    """Save the dashboard on W&B; returns its address.

    Raises:
        RefineError: W&B cannot be reached, or refuses.
    """
    refusals = (OSError, ValueError, _load("wandb").Error)
    try:
        workspace = build_workspace(dashboard, url=url)
        workspace.save()
    except refusals as error:
        raise RefineError(f"W&B: {' '.join(str(error).split())}") from None
    return str(workspace.url)


def show_or_save(args: argparse.Namespace) -> None:
    """Print the specification, or write the dashboard and print its address."""
    dashboard = describe_dashboard(args.project, name=args.name, group=args.group)
    if args.dry_run:
        print(json.dumps(dashboard.to_json(), indent=1))
    else:
        print(save(dashboard, url=args.update))


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parse_args(argv)
    return run_script(lambda: show_or_save(args))


if __name__ == "__main__":
    sys.exit(main())
