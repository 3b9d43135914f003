"""Mistakes on the command line get one line that names the fix."""

import pytest

from make.errors import refused
from refine.config import compose
from refine.config.instantiate import build
from refine.errors import RefineError


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("experiment=tyo", "did you mean toy?"),
        ("experimnt=toy", "did you mean experiment?"),
        ("+experimnt=toy", "did you mean experiment?"),
        ("trainer.max_stps=2", "did you mean trainer.max_steps?"),
        ("fusion.merge.score_tresh=.3", "did you mean fusion.merge.score_thresh?"),
        ("overlap_thresh=.3", "did you mean fusion.merge.overlap_thresh?"),
        ("data.batch_size=abc", "data.batch_size: value 'abc'"),
        ("trainer.gradient_clip_val=abc", "trainer.gradient_clip_val: value 'abc'"),
        ("draw=many", "draw: value 'many'"),
        ("fusion.merge.score_thresh=1.5", "score_thresh=1.5: expected a fraction"),
        ("model.backbone.name=r51", "name='r51': expected one of"),
        ("trainer.accumulate_grad_batches=0", "accumulate_grad_batches=0: expected"),
    ],
)
def test_mistake_is_one_line_with_the_fix(override, expected):
    with refused(expected):
        compose("train", [override])


@pytest.mark.parametrize(
    ("command", "overrides", "expected"),
    [
        ("evaluate", ["data.toy.num_val=3"], "choose the group that has it first"),
        ("predict", ["source=x"], "ckpt_path: a value is needed; give ckpt_path=VALUE"),
    ],
)
def test_what_is_missing_is_named(command, overrides, expected):
    with pytest.raises(RefineError, match=expected):
        compose(command, overrides)


def test_a_configuration_cannot_build_anything():
    with pytest.raises(RefineError, match="not allowed"):
        build({"_target_": "os.system", "command": "true"})
