"""What a run leaves in its directory, and the table it prints."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from refine.atomic import write_text
from refine.metrics.quality_table import QualityTable

_CONSOLE = Console()

_MAY_CHANGE = ("trainer", "logger", "callbacks", "run_dir", "draw", "compute_ap")
"""Sections that a run may be resumed with other values of, but for these keys of the trainer."""
_TRAINER_LEARNS = ("max_steps", "accumulate_grad_batches", "gradient_clip_val", "precision")


def write_config(run_dir: Path, config: Mapping[str, Any]) -> None:
    """``config.yaml``: the resolved configuration."""
    write_text(run_dir / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(config))))


def write_results(
    run_dir: Path,
    metrics: Mapping[str, float | int],
    per_category_csv: str,
    *,
    per_image_csv: str,
    config: Mapping[str, Any],
) -> None:
    """``metrics.json``, ``per_category.csv``, ``per_image.csv`` and, last of all, ``DONE``.

    Args:
        run_dir: The run's directory.
        metrics: One flat object; fractions in [0, 1].
        per_category_csv: Text of the file.
        per_image_csv: Text of the file.
        config: Its hash goes into ``DONE``: a sweep skips finished jobs of the same configuration.
    """
    write_text(run_dir / "per_category.csv", per_category_csv)
    write_text(run_dir / "per_image.csv", per_image_csv)
    write_metrics(run_dir, metrics, config=config)


def write_metrics(
    run_dir: Path, metrics: Mapping[str, float | int], *, config: Mapping[str, Any]
) -> None:
    """``metrics.json`` and then ``DONE``, as :func:`write_results` ends."""
    write_text(run_dir / "metrics.json", json.dumps(dict(metrics), indent=1) + "\n")
    write_text(run_dir / "DONE", config_hash(config) + "\n")


def is_finished(run_dir: Path, config: Mapping[str, Any]) -> bool:
    """Whether a run of this very configuration has ended in this directory."""
    done = run_dir / "DONE"
    return done.is_file() and done.read_text().strip() == config_hash(config)


def changed_settings(before: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """The keys in which two configurations are those of different runs, sections or of the trainer.

    What does not change what is learned may differ: devices, logger, pictures.

    Args:
        before: Resolved configuration of a run, as plain containers.
        config: Of the run that is to go on from it.
    """
    sections = [
        str(key)
        for key in sorted(before.keys() | config.keys())
        if key not in _MAY_CHANGE and before.get(key) != config.get(key)
    ]
    trainers = [content.get("trainer") or {} for content in (before, config)]
    return sections + [
        f"trainer.{key}" for key in _TRAINER_LEARNS if trainers[0].get(key) != trainers[1].get(key)
    ]


def read_metrics(run_dir: Path) -> dict[str, float | int]:
    """``metrics.json`` of a finished run."""
    metrics: dict[str, float | int] = json.loads((run_dir / "metrics.json").read_text())
    return metrics


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 of a configuration, wherever it runs and however its keys are ordered."""
    content = {key: value for key, value in config.items() if key != "run_dir"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def print_table(quality: QualityTable, metrics: Mapping[str, float | int]) -> None:
    """PQ, SQ and RQ x all, things and stuff, times 100; then the other figures at hand.

    Args:
        quality: The table.
        metrics: With ``num_images`` and, if known, ``ap_box``, ``ap_mask``, ``images_per_second``.
    """
    table = Table(title="panoptic quality x 100")
    table.add_column("")
    for name in ("PQ", "SQ", "RQ", "categories"):
        table.add_column(name, justify="right")
    for row in quality.cells():
        table.add_row(*row)
    _CONSOLE.print(table)
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


def say(text: str) -> None:
    """A line on the console, unwrapped."""
    _CONSOLE.print(text, soft_wrap=True, highlight=False, markup=False)
