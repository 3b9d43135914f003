"""Every knob, once: its name, type, unit, default and range.

Hydra uses these dataclasses as the schema of ``conf/`` (a misspelt key or a wrong type is refused
while the configuration is composed) and the constructors take them, so a default stands here and
nowhere else. Defaults are the paper's, or those of the baseline that it builds on (detectron2's
Panoptic-FPN). Thresholds and probabilities are fractions in [0, 1]; lengths end in ``_px``.

Ranges are checked on construction: a value outside raises ``ValueError`` naming the knob.
"""

from refine.options.data import (
    AnchorOptions,
    DataOptions,
    ImageOptions,
    OcclusionPairsOptions,
    ToyOptions,
)
from refine.options.fusion import (
    FusionOptions,
    MergeOptions,
    RelationsOptions,
    UnknownErasingOptions,
)
from refine.options.heads import OcclusionStageOptions, RankingStageOptions
from refine.options.ibpp import IBPPOptions
from refine.options.model import (
    BACKBONES,
    NORMS,
    BackboneOptions,
    LossWeights,
    ModelOptions,
    ProposalOptions,
    RoIOptions,
    SemanticOptions,
)
from refine.options.occlusion import OcclusionOptions
from refine.options.optimisation import OptimizerOptions, ScheduleOptions
from refine.options.ranking import RankingOptions

__all__ = [
    "BACKBONES",
    "NORMS",
    "AnchorOptions",
    "BackboneOptions",
    "DataOptions",
    "FusionOptions",
    "IBPPOptions",
    "ImageOptions",
    "LossWeights",
    "MergeOptions",
    "ModelOptions",
    "OcclusionOptions",
    "OcclusionPairsOptions",
    "OcclusionStageOptions",
    "OptimizerOptions",
    "ProposalOptions",
    "RankingOptions",
    "RankingStageOptions",
    "RelationsOptions",
    "RoIOptions",
    "ScheduleOptions",
    "SemanticOptions",
    "ToyOptions",
    "UnknownErasingOptions",
]
