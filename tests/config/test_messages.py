"""Mistakes on the command line get one line that names the fix."""

import pytest

from make.errors import refused
from refine.config import compose
from refine.config.instantiate import build


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


def test_what_is_missing_or_cannot_be_built_is_named():
    with refused("choose the group that has it first"):
        compose("evaluate", ["data.toy.num_val=3"])
    with refused("ckpt_path: a value is needed; give ckpt_path=VALUE"):
        compose("predict", ["source=x"])
    with refused("not allowed"):
        build({"_target_": "os.system", "command": "true"})
