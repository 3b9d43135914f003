"""The folder of a run: what it holds, and whether a run may continue in it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from refine.atomic import write_text
from refine.config.settings import Settings
from refine.runs.console import say

Status = Literal["new", "resumable", "finished", "foreign"]

_MAY_CHANGE = ("trainer", "logger", "callbacks", "run_dir", "draw", "compute_ap")
"""Sections that a run may be resumed with other values of, but for these keys of the trainer."""
_TRAINER_LEARNS = ("max_steps", "accumulate_grad_batches", "gradient_clip_val", "precision")


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

    def status(self, settings: Settings) -> Status:
        """What a command with these settings finds in the folder.

        ``finished``: a run of these very settings has ended here. ``foreign``: a run that learned,
        or was to learn, under other settings has started here. ``resumable``: there is a checkpoint
        to resume from. ``new``: none of these.

        Raises:
            RefineError: The last checkpoint cannot be read.
        """
        if self.is_finished(settings):
            return "finished"
        if self.find_changes(settings):
            return "foreign"
        return "resumable" if self.last_checkpoint.is_file() else "new"

    def is_finished(self, settings: Settings) -> bool:
        """Whether a run of these very settings has ended here."""
        done = self.path / "DONE"
        return done.is_file() and done.read_text().strip() == hash_config(settings.to_plain())

    def read_finished(self, settings: Settings) -> dict[str, float | int] | None:
        """Metrics of a finished run of these settings, said on the console; None without one."""
        if not self.is_finished(settings):
            return None
        say(f"finished before: {self.path}")
        return self.read_metrics()

    def find_changes(self, settings: Settings) -> list[str]:
        """Sections and trainer keys in which the run that started here is another one.

        What does not change what is learned may differ: devices, logger, pictures.
        """
        path = self.path / "config.yaml"
        if self.last_checkpoint.is_file():  # config.yaml may be newer
            from refine.runs.checkpoint import read_checkpoint  # torch is slow to import

            before = read_checkpoint(self.last_checkpoint).config
        elif path.is_file():
            before = yaml.safe_load(path.read_text(encoding="utf-8"))
        else:
            return []
        now = settings.to_plain()
        old, new = (content.get("trainer") or {} for content in (before, now))
        fixed = sorted((before.keys() | now.keys()) - set(_MAY_CHANGE))
        return [
            *(key for key in fixed if before.get(key) != now.get(key)),
            *(f"trainer.{key}" for key in _TRAINER_LEARNS if old.get(key) != new.get(key)),
        ]

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
        config: Mapping[str, Any],
        tables: Mapping[str, str] | None = None,
    ) -> None:
        """Write tables (texts by file name), ``metrics.json`` and, last of all, ``DONE``.

        ``DONE`` holds the hash of the run's settings, so that finished jobs are skipped.
        """
        for name, text in (tables or {}).items():
            write_text(self.path / name, text)
        write_text(self.path / "metrics.json", json.dumps(dict(metrics), indent=1) + "\n")
        write_text(self.path / "DONE", hash_config(config) + "\n")


def hash_config(config: Mapping[str, Any]) -> str:
    """SHA-256 of a configuration, whatever its folder and the order of its keys."""
    content = {key: value for key, value in config.items() if key != "run_dir"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
