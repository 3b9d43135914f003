"""What detectron2's ``config.yaml`` says that its checkpoints do not.

Training writes the file beside ``model_final.pth``. The names of its settings are facts, read in
detectron2 (Apache-2.0), ``config/defaults.py``. A setting that it does not list, and a checkpoint
without the file, has the value of the model zoo's four Panoptic-FPNs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from refine.config.flatten import flatten
from refine.errors import RefineError, first_line
from refine.weights.stored import CAFFE2, PixelStats

MODEL_ZOO = "model_zoo"
"""Stands for the settings of the published checkpoints."""

_PUBLISHED = ("dbfeb4", "c10459", "cafdb1", "be35db")  # in their file names
_OURS = {
    "MODEL.RESNETS.STRIDE_IN_1X1": "model.backbone.stride_in_1x1",
    "MODEL.ANCHOR_GENERATOR.SIZES": "data.anchors.sizes_px",
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": "data.anchors.aspect_ratios",
    "MODEL.RPN.PRE_NMS_TOPK_TEST": "model.proposals.pre_nms_eval",
    "MODEL.RPN.POST_NMS_TOPK_TEST": "model.proposals.post_nms_eval",
    "MODEL.RPN.NMS_THRESH": "model.proposals.nms_thresh",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "model.roi.score_thresh",
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": "model.roi.nms_thresh",
    "TEST.DETECTIONS_PER_IMAGE": "model.roi.max_detections",
    "INPUT.MIN_SIZE_TEST": "data.image.eval_short_side_px",
    "INPUT.MAX_SIZE_TEST": "data.image.eval_max_long_side_px",
    "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH": "fusion.merge.score_thresh",
    "MODEL.PANOPTIC_FPN.COMBINE.OVERLAP_THRESH": "fusion.merge.overlap_thresh",
    "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT": "data.stuff_area_limit_px",
}
_FIXED: dict[str, Any] = {
    "MODEL.META_ARCHITECTURE": "PanopticFPN",
    "INPUT.FORMAT": "BGR",
    "MODEL.RESNETS.RES5_DILATION": 1,
    "MODEL.RESNETS.DEFORM_MODULATED": False,
    "MODEL.FPN.FUSE_TYPE": "sum",
    "MODEL.ANCHOR_GENERATOR.OFFSET": 0.0,
    "MODEL.RPN.BBOX_REG_WEIGHTS": [1.0, 1.0, 1.0, 1.0],
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlignV2",
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 0,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": [10.0, 10.0, 5.0, 5.0],
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "ROIAlignV2",
    "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": 0,
    "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": False,
    "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 4,
}


class Detectron2Config(NamedTuple):
    """Settings of a checkpoint: overrides of our own, and how its images are normalised."""

    overrides: list[str]
    pixels: PixelStats


def read_detectron2_config(config: str | None, *, source: str) -> Detectron2Config:
    """The settings of the checkpoint ``source`` (a file name).

    ``config`` is the path of its ``config.yaml`` or :data:`MODEL_ZOO`; None is the latter for the
    four published files, which have their hash in their name.

    Raises:
        RefineError: Another checkpoint without ``config``; a file that is missing or incomplete; or
            settings that cannot be converted.
    """
    if config is None and not any(mark in Path(source).name for mark in _PUBLISHED):
        raise RefineError(
            f"{source}: a checkpoint does not say where its blocks have their stride, nor its "
            "anchors and pixel statistics; give config=config.yaml, which training wrote beside "
            f"it, or config={MODEL_ZOO} if it was trained as the published ones"
        )
    if config is None or config == MODEL_ZOO:
        return Detectron2Config([], CAFFE2)
    found = _read_yaml(Path(config))
    for key, expected in _FIXED.items():
        if found.get(key, expected) != expected:
            raise RefineError(f"{config}: {key} is {found[key]}; only {expected} can be converted")
    overrides = [f"{ours}={_plain(found[key], key)}" for key, ours in _OURS.items() if key in found]
    mean = found.get("MODEL.PIXEL_MEAN", CAFFE2.mean)
    std = found.get("MODEL.PIXEL_STD", CAFFE2.std)
    try:
        return Detectron2Config(overrides, PixelStats(tuple(mean), tuple(std), "bgr"))
    except (TypeError, ValueError) as error:
        raise RefineError(f"{config}: MODEL.PIXEL_{error}") from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RefineError(
            f"config={path}: cannot be read ({first_line(error)}); give detectron2's config.yaml"
        ) from None
    if not isinstance(content, Mapping) or "MODEL" not in content or "_BASE_" in content:
        raise RefineError(
            f"config={path}: not the whole configuration; give the config.yaml that training wrote "
            "into its OUTPUT_DIR"
        )
    return flatten(content)


def _plain(value: Any, key: str) -> Any:
    """A value as an override; detectron2 lists one size for each level, and one list of ratios."""
    if key.endswith("SIZES"):
        return [int(size) for sizes in value for size in sizes]
    if key.endswith("ASPECT_RATIOS"):
        return list(value[0])
    return str(value).lower() if isinstance(value, bool) else value
