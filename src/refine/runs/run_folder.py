"""The folder of a run: what it holds, and whether a run may continue in it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from refine.atomic import write_text
from refine.config.flatten import flatten
from refine.config.settings import Settings, TrainSettings, is_place
from refine.errors import RefineError
from refine.runs.console import say

Status = Literal["new", "resumable", "finished", "foreign"]

_MAY_CHANGE = ("trainer", "logger", "callbacks", "run_dir", "draw", "compute_ap")
"""Sections that a run may be resumed with other values of, but for these keys of the trainer."""
_TRAINER_LEARNS = ("max_steps", "accumulate_grad_batches", "gradient_clip_val", "precision")


class RunState(NamedTuple):
    """What a folder holds for a command.

    Attributes:
        status: ``finished``: a run of these very settings has ended here. ``foreign``: a run of
            other settings has started here. ``resumable``: there is a checkpoint to resume from.
            ``new``: none of these.
        checkpoint: The newest readable checkpoint, if the status is ``resumable``.
        changes: Dotted keys that make the run a foreign one, as far as they are known.
    """

    status: Status
    checkpoint: Path | None = None
    changes: tuple[str, ...] = ()


class RunFolder:
    """The folder of a run; it need not exist."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def last_checkpoint(self) -> Path:
        """Checkpoint of the last step."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def final_checkpoint(self) -> Path:
        """What a finished training hands on: its best checkpoint, or else its last one."""
        best = self.path / "checkpoints" / "best.ckpt"
        return best if best.is_file() else self.last_checkpoint

    def inspect(self, settings: Settings) -> RunState:
        """What a command with these settings finds in the folder."""
        if self.is_finished(settings):
            return RunState("finished")
        if not isinstance(settings, TrainSettings):  # there is nothing to resume
            return RunState("foreign" if (self.path / "DONE").is_file() else "new")
        checkpoint, config = None, self.path / "config.yaml"
        if self.last_checkpoint.parent.is_dir():
            from refine.runs.checkpoint import find_readable  # torch is slow to import

            checkpoint = find_readable(self.last_checkpoint)
        if checkpoint is not None:  # config.yaml may be newer
            changes = _find_changes(checkpoint.config, settings)
        elif config.is_file():
            changes = _find_changes(yaml.safe_load(config.read_text(encoding="utf-8")), settings)
        else:
            changes = []
        if changes:
            return RunState("foreign", changes=tuple(changes))
        return RunState("new") if checkpoint is None else RunState("resumable", checkpoint.path)

    def claim(self, settings: Settings) -> RunState:
        """As :meth:`inspect`, but a foreign run is refused with a ``RefineError``."""
        state = self.inspect(settings)
        if state.status == "foreign":
            other = ", ".join(state.changes[:5]) or "setting"
            raise RefineError(
                f"{self.path} holds a run with another {other}; choose another folder with "
                "hydra.run.dir=FOLDER (of a multirun: hydra.sweep.dir=FOLDER), or delete this one"
            )
        return state

    def is_finished(self, settings: Settings) -> bool:
        """Whether a run of these very settings has ended here."""
        done = self.path / "DONE"
        found = done.read_text().strip() if done.is_file() else None
        # before, a run's place (logger, devices, ...) was part of the hash
        return found in (settings.identity(), hash_config(settings.to_plain()))

    def read_finished(self, settings: Settings) -> dict[str, float | int] | None:
        """Metrics of a finished run of these settings, said on the console; None without one."""
        if not self.is_finished(settings):
            return None
        say(f"finished before: {self.path}")
        return self.read_metrics()

    def read_metrics(self) -> dict[str, float | int]:
        """The content of ``metrics.json``."""
        content: dict[str, float | int] = json.loads((self.path / "metrics.json").read_text())
        return content

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write ``config.yaml``, the resolved configuration."""
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        write_text(self.path / "config.yaml", text)

    def write_results(
        self,
        metrics: Mapping[str, float | int],
        *,
        settings: Settings,
        tables: Mapping[str, str] | None = None,
    ) -> None:
        """Write tables (texts by file name), ``metrics.json`` and, last, ``DONE``: the identity."""
        for name, text in (tables or {}).items():
            write_text(self.path / name, text)
        write_text(self.path / "metrics.json", json.dumps(dict(metrics), indent=1) + "\n")
        write_text(self.path / "DONE", settings.identity() + "\n")


def _find_changes(before: Mapping[str, Any], settings: Settings) -> list[str]:
    """Dotted keys of what is learned in which the run of a recorded configuration is another."""
    old, new = (
        {k: v for k, v in flatten(c).items() if _is_fixed(k)} for c in (before, settings.to_plain())
    )
    return sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))


def _is_fixed(key: str) -> bool:
    """Whether a run is another one if the setting of this dotted key changes."""
    section, _, name = key.partition(".")
    if section in _MAY_CHANGE or is_place(key):
        return section == "trainer" and name in _TRAINER_LEARNS
    return True


def hash_config(config: Mapping[str, Any]) -> str:
    """SHA-256 of a configuration, whatever its folder and the order of its keys."""
    content = {key: value for key, value in config.items() if key != "run_dir"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
