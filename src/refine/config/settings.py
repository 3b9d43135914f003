"""The configuration of each command as typed settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from refine.config.instantiate import to_options
from refine.options import DataOptions, FusionOptions, ModelOptions


@dataclass(kw_only=True)
class Sections:
    """The three sections that a checkpoint brings along.

    Attributes:
        data: Dataset, image sizes and categories.
        model: Network.
        fusion: From the network's output to the panoptic map.
    """

    data: DataOptions = field(default_factory=DataOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    fusion: FusionOptions = field(default_factory=FusionOptions)

    @classmethod
    def read(cls, recorded: Mapping[str, Any]) -> "Sections":
        """The sections of a recorded configuration.

        Args:
            recorded: Plain containers with the keys ``data``, ``model`` and ``fusion``.

        Raises:
            RefineError: An unknown key, a wrong type, or a value outside its range.
        """
        return cls(
            data=to_options(recorded["data"], DataOptions),
            model=to_options(recorded["model"], ModelOptions),
            fusion=to_options(recorded["fusion"], FusionOptions),
        )
