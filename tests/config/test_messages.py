"""Mistakes on the command line get one line that names the mend."""

import pytest

from refine.config import compose
from refine.config.instantiate import build, to_options
from refine.errors import RefineError
from refine.options import FusionOptions, ModelOptions


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("experiment=tyo", "did you mean toy?"),
        ("data=toi", "did you mean toy?"),
        ("experimnt=toy", "did you mean experiment?"),
        ("trainer.max_stps=2", "did you mean trainer.max_steps?"),
        ("fusion.merge.score_tresh=.3", "did you mean fusion.merge.score_thresh?"),
        ("overlap_thresh=.3", "did you mean fusion.merge.overlap_thresh?"),
        ("data.batch_size=abc", "data.batch_size"),
        ("model.channels_last=perhaps", "model.channels_last"),
    ],
)
def test_mistake_is_one_line_with_the_mend(override, expected):
    with pytest.raises(RefineError) as caught:
        compose("train", [override])
    message = str(caught.value)
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("override", "options", "section"),
    [
        ("fusion.merge.score_thresh=1.5", FusionOptions, "fusion"),
        ("model.backbone.name=r51", ModelOptions, "model"),
        ("model.backbone.fpn_channels=50", ModelOptions, "model"),
    ],
)
def test_value_out_of_range_names_the_knob(override, options, section):
    cfg = compose("train", [override])
    with pytest.raises(RefineError, match=override.split("=")[0].rsplit(".", 1)[-1]):
        to_options(cfg[section], options)


def test_a_configuration_cannot_build_anything():
    cfg = compose("train", ["++trainer._target_=os.system"])
    with pytest.raises(RefineError, match="not allowed"):
        build(cfg.trainer)


def test_a_setting_below_null_is_one_line():
    with pytest.raises(RefineError, match="choose the group that has it first"):
        compose("evaluate", ["data.toy.num_val=3", "run_dir=x"])
