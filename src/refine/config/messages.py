"""Hydra's complaints about a command line, as one line each with the nearest valid name."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from refine.config.locate import conf_dir

ConfigError = (HydraException, OmegaConfBaseException)

_FULL_KEY = re.compile(r"full_key: (\S+)")
_INTERNAL = re.compile(r"\s*(full_key|object_type|reference_type|Error merging|See https)")
_BAD_VALUE = re.compile(
    "could not be converted|incompatible with type hint|is not a valid|Invalid value assigned"
)
_NO_NULL = re.compile("is not Optional|Incompatible value 'None'")
_OVERRIDE = re.compile(r"(?:Could not override|Error merging override) '?([^'\s]+)'?")


def explain(error: Exception, *, known: Mapping[str, Any]) -> str:
    """One line that says what is wrong with a configuration and how to fix it.

    ``known`` is the configuration without the user's overrides, in plain containers.
    """
    if isinstance(error, MissingConfigException):
        return _explain_choice(error)
    text = _flatten(error)
    key_match = _FULL_KEY.search(text) or _OVERRIDE.search(text)
    key = key_match.group(1).split("=")[0] if key_match else ""
    if key and ("Could not override" in text or "not in struct" in text or "not in '" in text):
        groups = (p.name for p in conf_dir().iterdir() if p.is_dir())
        return f"{key}: no such setting{_suggest(key, [*_keys(known), *groups])}"
    if key and _NO_NULL.search(text):
        return f"{key}: null is not allowed; give a value"
    # the innermost message may still be OmegaConf's template, with $VALUE in it
    for line in text.split("\n"):
        if _BAD_VALUE.search(line) and "$" not in line:
            return f"{key}: {line[:1].lower()}{line[1:].rstrip('.')}"
    if "mandatory" in text.lower() or "missing" in text.lower():
        return f"{key or text.splitlines()[0]}: a value is needed; give {key or 'KEY'}=VALUE"
    lines = [line for line in text.split("\n") if line.strip() and not _INTERNAL.match(line)]
    return f"{key}: {lines[0]}" if key else " ".join(dict.fromkeys(lines))


def explain_groups(overrides: Sequence[str]) -> str | None:
    """What is wrong with a choice that is no name of a file, such as ``data=null``, or None."""
    for override in overrides:
        group, _, name = override.lstrip("+").partition("=")
        if not group:
            return f"{override}: the setting's name is missing; give KEY=VALUE"
        if (conf_dir() / group).is_dir() and not re.fullmatch(r"[\w./-]+", name):
            return f"{group}={name}: no such choice; have {', '.join(_choices(group))}"
        if name == "null" and (conf_dir() / group).is_dir():
            return f"{group}=null: a choice is needed; have {', '.join(_choices(group))}"
    return None


def _choices(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def _explain_choice(error: MissingConfigException) -> str:
    missing = error.missing_cfg_file or ""
    group, _, name = missing.rpartition("/")
    options = _choices(group) if group else []
    if not options:
        return f"{missing}: no such configuration; 'local' and 'conf/' hold the groups"
    return f"{group}={name}: no such choice{_suggest(name, options)}; have {', '.join(options)}"


def _flatten(error: BaseException) -> str:
    """The message with that of its causes, innermost first: the innermost names the key."""
    # in a debugger OmegaConf makes an error its own cause
    cause = error.__context__ if error.__cause__ in (None, error) else error.__cause__
    if isinstance(cause, ConfigError):  # below that is Python's own "invalid literal"
        return f"{_flatten(cause)}\n{error}"
    return str(error)


def _keys(config: Any, prefix: str = "") -> Iterable[str]:
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield f"{prefix}{key}"
            yield from _keys(value, f"{prefix}{key}.")


def _suggest(name: str, candidates: Iterable[str]) -> str:
    pool = [c for c in dict.fromkeys(candidates) if c != name]
    close = difflib.get_close_matches(name, pool, n=1, cutoff=0.6)
    if not close:  # right name, wrong place: sigma instead of fusion.relations.sigma
        leaf = name.rsplit(".", 1)[-1]
        close = [c for c in pool if c.rsplit(".", 1)[-1] == leaf][:1]
    return f"; did you mean {close[0]}?" if close else ""
