"""Settings by their names on the command line."""

import copy
from collections.abc import Mapping
from typing import Any


def nest(settings: Mapping[str, Any], base: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Nested dictionary of dotted keys: ``{"a.b": 1}`` becomes ``{"a": {"b": 1}}``.

    Args:
        settings: Values by dotted key; a value may itself be a dictionary, which then replaces
            that of ``base``.
        base: Nested dictionary that the settings change; it is copied.
    """
    result: dict[str, Any] = copy.deepcopy(dict(base or {}))
    for key, value in settings.items():
        *sections, name = key.split(".")
        node = result
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = value
    return result
