"""REFINE: prediction fusion for panoptic segmentation (Ren et al., AAAI 2021).

The names of ``__all__`` are the library's interface. Each is imported when it is first used, so
that ``import refine`` itself takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refine.api.adapters import from_huggingface, from_torchvision
    from refine.api.fuse_predictions import fuse_predictions
    from refine.api.panoptic_result import PanopticResult
    from refine.api.predictor import Predictor, load
    from refine.data.video import read_frames
    from refine.detector.backbone import register_backbone
    from refine.errors import RefineError
    from refine.fusion.relations import register_relation
    from refine.metrics.panoptic_quality import PanopticQuality
    from refine.workflows.fit import fit

__version__ = "0.1.0"

__all__ = [
    "PanopticQuality",
    "PanopticResult",
    "Predictor",
    "RefineError",
    "__version__",
    "fit",
    "from_huggingface",
    "from_torchvision",
    "fuse_predictions",
    "load",
    "read_frames",
    "register_backbone",
    "register_relation",
]

_MODULES = {
    "PanopticQuality": "refine.metrics.panoptic_quality",
    "PanopticResult": "refine.api.panoptic_result",
    "Predictor": "refine.api.predictor",
    "RefineError": "refine.errors",
    "fit": "refine.workflows.fit",
    "from_huggingface": "refine.api.adapters",
    "from_torchvision": "refine.api.adapters",
    "fuse_predictions": "refine.api.fuse_predictions",
    "load": "refine.api.predictor",
    "read_frames": "refine.data.video",
    "register_backbone": "refine.detector.backbone",
    "register_relation": "refine.fusion.relations",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'refine' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
