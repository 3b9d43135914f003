"""A checkpoint's own configuration, with what the command line names on top."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from refine.config.instantiate import to_options
from refine.config.settings import Sections
from refine.options import DataOptions, FusionOptions, ModelOptions

SECTIONS: dict[str, type] = {"model": ModelOptions, "data": DataOptions, "fusion": FusionOptions}


def from_checkpoint(
    cfg: DictConfig, recorded: Mapping[str, Any], overrides: Sequence[str]
) -> Sections:
    """Options of a command that runs a checkpoint.

    A section (``model``, ``data``, ``fusion``) whose choice the command line names (``data=toy``;
    for the fusion also ``component=``) is the composed one; any other is the checkpoint's, changed
    by the dotted overrides (``fusion.merge.score_thresh=0.6``).

    Args:
        cfg: The composed configuration of the command, overrides included.
        recorded: The configuration in the checkpoint.
        overrides: The command line's overrides.

    Returns:
        The sections to use.

    Raises:
        RefineError: The checkpoint's configuration no longer fits the options.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    keys = [o.key_or_group for o in parsed]
    result: dict[str, Any] = {}
    for section, options in SECTIONS.items():
        if section in keys or (section == "fusion" and "component" in keys):
            node = cfg[section]
        else:
            node = OmegaConf.create(dict(recorded[section]))
            for key in keys:
                if key.startswith(f"{section}."):
                    value = OmegaConf.select(cfg, key)
                    OmegaConf.update(node, key.removeprefix(f"{section}."), value)
        result[section] = to_options(node, options)
    return Sections(**result)
