"""What a checkpoint of detectron2 does not say: taken from its config.yaml, known, or refused."""

import pytest
import yaml

from make.errors import refused
from refine.weights.detectron2 import PanopticFPN
from refine.weights.detectron2_config import read_detectron2_config
from refine.weights.stored import CAFFE2, PixelStats
from refine.workflows.convert_weights import compose_settings

CONFIG = {  # an excerpt of what detectron2 writes: its defaults, with every list spelt out
    "INPUT": {"FORMAT": "BGR", "MIN_SIZE_TEST": 640, "MAX_SIZE_TEST": 1000},
    "MODEL": {
        "META_ARCHITECTURE": "PanopticFPN",
        "PIXEL_MEAN": [103.53, 116.28, 123.675],
        "PIXEL_STD": [57.375, 57.12, 58.395],
        "ANCHOR_GENERATOR": {
            "SIZES": [[16], [32], [64], [128], [256]], "ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
            "OFFSET": 0.0,
        },
        "RESNETS": {"STRIDE_IN_1X1": False, "DEFORM_MODULATED": False},
        "ROI_HEADS": {"SCORE_THRESH_TEST": 0.1},
        "PANOPTIC_FPN": {"COMBINE": {"STUFF_AREA_LIMIT": 1024}},
    },
    "TEST": {"DETECTIONS_PER_IMAGE": 50},
}  # fmt: skip


def _write(path, **model):
    path.write_text(yaml.safe_dump(CONFIG | {"MODEL": CONFIG["MODEL"] | model}))
    return str(path)


def test_a_configuration_is_followed(tmp_path):
    given = read_detectron2_config(_write(tmp_path / "config.yaml"), source="model_final.pth")
    settings = compose_settings(PanopticFPN("r50", False), given.overrides)
    assert given.pixels == PixelStats((103.53, 116.28, 123.675), (57.375, 57.12, 58.395), "bgr")
    assert settings.model.backbone.stride_in_1x1 is False
    assert settings.data.anchors.sizes_px == [16, 32, 64, 128, 256]
    assert settings.data.anchors.aspect_ratios == [0.5, 1.0, 2.0]
    assert settings.data.image.eval_short_side_px == 640
    assert settings.data.image.eval_max_long_side_px == 1000
    assert settings.data.stuff_area_limit_px == 1024
    assert (settings.model.roi.score_thresh, settings.model.roi.max_detections) == (0.1, 50)


def test_published_files_are_known_by_their_names_and_others_refused():
    zoo = ([], CAFFE2)
    assert read_detectron2_config(None, source="/a/model_final_c10459.pkl") == zoo
    assert read_detectron2_config("model_zoo", source="model_final.pth") == zoo
    with refused("model_final.pth: a checkpoint does not say where its blocks have their stride"):
        read_detectron2_config(None, source="model_final.pth")
    settings = compose_settings(PanopticFPN("r50", False))
    assert settings.model.backbone.stride_in_1x1 is True
    assert settings.data.image.resize == "pillow"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"META_ARCHITECTURE": "GeneralizedRCNN"}, "only PanopticFPN can be converted"),
        ({"RESNETS": {"DEFORM_MODULATED": True}}, "MODEL.RESNETS.DEFORM_MODULATED is True; only"),
        ({"PIXEL_STD": [1.0, 0.0, 1.0]}, "MODEL.PIXEL_std"),
    ],
)
def test_settings_that_cannot_be_converted_are_refused(tmp_path, model, message):
    with refused(message):
        read_detectron2_config(_write(tmp_path / "config.yaml", **model), source="m.pth")


@pytest.mark.parametrize("content", ["[1]", "_BASE_: x.yaml\nMODEL: {}", "a: [", None])
def test_files_that_are_no_configuration_are_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "config.yaml").write_text(content)
    with refused("config=", "config.yaml"):
        read_detectron2_config(str(tmp_path / "config.yaml"), source="m.pth")
