"""Registers the option dataclasses as schemas: wrong keys and types fail while composing."""

from hydra.core.config_store import ConfigStore

from refine.options import (
    DataOptions,
    FusionOptions,
    ModelOptions,
    OcclusionStageOptions,
    OptimizerOptions,
    RankingStageOptions,
    ScheduleOptions,
)

_SCHEMAS = {
    "data": DataOptions,
    "model": ModelOptions,
    "fusion": FusionOptions,
    "optimizer": OptimizerOptions,
    "schedule": ScheduleOptions,
    "occlusion": OcclusionStageOptions,
    "ranking": RankingStageOptions,
}


def register_schemas() -> None:
    """Make ``schema`` a choice of each typed group; its YAML files start from it."""
    store = ConfigStore.instance()
    for group, options in _SCHEMAS.items():
        store.store(name="schema", group=group, node=options, provider="refine")
