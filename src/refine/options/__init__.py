"""Every knob, once: its name, type, unit, default and range.

Hydra uses these dataclasses as the schema of ``conf/`` and the constructors take them, so a default
stands here and nowhere else: the paper's, or that of the baseline it builds on (detectron2's
Panoptic-FPN). Thresholds and probabilities are fractions in [0, 1]; lengths end in ``_px``.
"""

from refine.options.checks import to_plain as to_plain
from refine.options.data import AnchorOptions as AnchorOptions
from refine.options.data import CategoryOptions as CategoryOptions
from refine.options.data import DataOptions as DataOptions
from refine.options.data import ImageOptions as ImageOptions
from refine.options.data import OcclusionPairsOptions as OcclusionPairsOptions
from refine.options.data import SplitOptions as SplitOptions
from refine.options.data import ToyOptions as ToyOptions
from refine.options.fusion import FusionOptions as FusionOptions
from refine.options.fusion import MergeOptions as MergeOptions
from refine.options.fusion import RelationsOptions as RelationsOptions
from refine.options.fusion import UnknownErasingOptions as UnknownErasingOptions
from refine.options.model import BACKBONES as BACKBONES
from refine.options.model import NORMS as NORMS
from refine.options.model import BackboneOptions as BackboneOptions
from refine.options.model import IBPPOptions as IBPPOptions
from refine.options.model import LossWeights as LossWeights
from refine.options.model import ModelOptions as ModelOptions
from refine.options.model import ProposalOptions as ProposalOptions
from refine.options.model import RoIOptions as RoIOptions
from refine.options.model import SemanticOptions as SemanticOptions
from refine.options.optimisation import OptimizerOptions as OptimizerOptions
from refine.options.optimisation import ScheduleOptions as ScheduleOptions
from refine.options.order import OcclusionOptions as OcclusionOptions
from refine.options.order import OcclusionStageOptions as OcclusionStageOptions
from refine.options.order import RankingOptions as RankingOptions
from refine.options.order import RankingStageOptions as RankingStageOptions
from refine.options.overlay_style import OverlayOptions as OverlayOptions
from refine.options.trainer import TrainerOptions as TrainerOptions
