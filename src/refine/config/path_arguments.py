"""Paths on the command line, whatever characters they hold."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

PATH_KEYS = {
    "ckpt_path", "detector_ckpt_path", "predictions", "baseline_predictions", "save_predictions",
    "source", "ids_from", "out", "root", "gt_json", "pred_json", "gt_dir", "pred_dir", "run_dir",
    "instances", "semantic", "images_json", "categories_json", "weights", "data.root",
    "data.cache_dir", "data.occlusion_pairs.folder", "hydra.run.dir", "hydra.sweep.dir",
    *(f"data.{s}.{p}" for s in ("train", "val") for p in ("images", "masks", "annotations")),
    "data.train.instances", "data.val.instances",
    "images", "annotations", "pngs", "table", "json", "config",
}  # fmt: skip
"""Settings that are paths."""


def quote_paths(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command, with quotes around paths that Hydra would misread without them.

    Spaces, ``=``, ``(``, ``#``, quotes, brackets and letters of any language are a path's own, and
    so is a comma, but for a multirun over paths none of which holds one. What is quoted already,
    ``null`` and ``${...}`` stay as they are.
    """
    is_multirun = any(a == "--multirun" or re.fullmatch("-[a-z]*m[a-z]*", a) for a in arguments)
    return [_quote_argument(a, is_multirun=is_multirun) for a in arguments]


def _quote_argument(argument: str, *, is_multirun: bool) -> str:
    key, _, value = argument.partition("=")
    if key.lstrip("+") not in PATH_KEYS or not value:
        return argument
    parts = value.split(",")
    if is_multirun and len(parts) > 1 and not _exists(value):
        if all(map(_exists, parts)):
            return f"{key}={','.join(map(_quote, parts))}"
        found = _parse(argument)
        if found is not None and found.is_sweep_override():
            return argument
    return f"{key}={_quote(value)}"


def _quote(value: str) -> str:
    found = _parse(f"x={value}")
    if found is not None and not found.is_sweep_override():
        is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        if is_quoted and not _exists(value):
            return value
        if value == "null" or str(found.value()) == value:
            return value
    # within quotes a backslash is one unless it stands before a quote
    escaped = re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
    return f"'{escaped}'"


def _exists(value: str) -> bool:
    try:
        return Path(value).exists()
    except (OSError, ValueError):  # too long for a name, or no name at all
        return False


def _parse(argument: str) -> Any:
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException:
        return None
