"""What a W&B dashboard of the ablations shows, as data; ``scripts/wandb_dashboard.py`` builds it.

Names are those that a run logs: metrics as in ``metrics.json`` below ``val/``, settings as in
``config.yaml``, and ``row`` and ``ablation`` of :mod:`refine.callbacks.wandb_run`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from refine.errors import RefineError

KINDS = ("bars", "scatter", "lines", "category_bars", "table", "media")
STEP = "trainer/global_step"
_QUALITIES = {"pq": "PQ", "pq_things": "PQ things", "pq_stuff": "PQ stuff"}
_SIGMA = "fusion.relations.sigma"
_ERASING = "fusion.unknown_erasing.score_thresh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One chart.

    Attributes:
        kind: ``bars``: the mean of a metric over the runs that share a setting; ``scatter``: a
            metric over a setting, a point a run; ``lines``: metrics over steps;
            ``category_bars`` and ``table``: a logged table; ``media``: logged pictures.
        title: Above it.
        keys: Metrics (the first alone counts for ``bars`` and ``scatter``), the table, or pictures.
        by: The setting of ``bars`` and ``scatter``.
        is_log: ``scatter``: logarithmic horizontal axis.
    """

    kind: str
    title: str
    keys: tuple[str, ...]
    by: str | None = None
    is_log: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r}: expected one of {', '.join(KINDS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Charts under one heading."""

    name: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """A W&B workspace.

    Attributes:
        entity: User or team.
        project: Of the runs.
        name: Of the saved view.
        group: Runs of this sweep only; None for all.
        columns: Of the list of runs, as W&B names them.
        sections: From top to bottom.
    """

    entity: str
    project: str
    name: str
    group: str | None
    columns: tuple[str, ...]
    sections: tuple[Section, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain containers."""
        return asdict(self)


def describe_dashboard(path: str, *, name: str, group: str | None = None) -> Dashboard:
    """The dashboard of the ablations of a project.

    Args:
        path: ``ENTITY/PROJECT``.
        name: Of the saved view.
        group: Runs of this sweep only; None for all.

    Raises:
        RefineError: ``path`` is not of that form.
    """
    entity, _, project = path.partition("/")
    if not entity or not project or "/" in project:
        raise RefineError(f"{path}: expected ENTITY/PROJECT, as in the address of the project")
    return Dashboard(
        entity=entity,
        project=project,
        name=name,
        group=group,
        columns=("config:row.value", *(f"summary:val/{key}" for key in _QUALITIES)),
        sections=_sections(),
    )


def _sections() -> tuple[Section, ...]:
    rows = tuple(
        Panel(kind="bars", title=f"{title} per row", keys=(f"val/{key}",), by="row")
        for key, title in _QUALITIES.items()
    )
    categories = (
        Panel(kind="category_bars", title="PQ per category", keys=("val/per_category",)),
        Panel(kind="table", title="per category", keys=("val/per_category",)),
    )
    pictures = (
        Panel(
            kind="media", title="ground truth | prediction | errors", keys=("pictures/panoptic",)
        ),
        Panel(kind="media", title="who was put on top", keys=("pictures/decisions",)),
        Panel(kind="media", title="iterations of IBPP", keys=("pictures/iterations",)),
    )
    training = (
        Panel(kind="lines", title="PQ", keys=tuple(f"val/{key}" for key in _QUALITIES)),
        Panel(kind="lines", title="consensus gap", keys=("val/consensus_gap", "val/band_void")),
        Panel(kind="lines", title="loss", keys=("train/loss",)),
    )
    return (
        Section(name="Rows of the ablation", panels=rows),
        Section(
            name="Soft occlusion: sigma", panels=_curves(_SIGMA, ("pq", "pq_things"), is_log=True)
        ),
        Section(name="Unknown Erasing: threshold", panels=_curves(_ERASING, ("pq", "pq_stuff"))),
        Section(name="Categories", panels=categories),
        Section(name="Pictures", panels=pictures),
        Section(name="Training", panels=training),
    )


def _curves(setting: str, keys: Sequence[str], *, is_log: bool = False) -> tuple[Panel, ...]:
    return tuple(
        Panel(
            kind="scatter",
            title=f"{_QUALITIES[key]} over {setting}",
            keys=(f"val/{key}",),
            by=setting,
            is_log=is_log,
        )
        for key in keys
    )
