"""Settings that cannot be meant end while they are composed, in one line with the key first."""

import pytest

from make.errors import refused
from refine.config import compose
from refine.config.instantiate import to_options
from refine.options import FusionOptions

GIVEN = {"train": ["experiment=toy"], "evaluate": ["ckpt_path=x"], "score": ["gt_json=a"]}


@pytest.mark.parametrize(
    ("command", "override", "line"),
    [
        ("train", "+foo=1", "foo: no such setting"),
        ("train", "++data.foo=1", "data.foo: no such setting; did you mean data.root?"),
        ("score", "fusion.merge=1", "fusion: no such setting"),
        ("train", "seed=-1", "seed=-1: expected a number in 0 .. 4294967295"),
        ("evaluate", "seed=4294967296", "seed=4294967296: expected a number in 0 .. 4294967295"),
        ("train", "seed=null", "seed: null is not allowed; give a value"),
        ("evaluate", "seed=null", "seed: null is not allowed; give a value"),
        ("train", "data.root=null", "data.root: null is not allowed; give a value"),
        ("train", "data=null", "data=null: a choice is needed; have cityscapes, "),
        ("evaluate", "model=null", "model=null: a choice is needed; have "),
        ("train", "data=[1]", "data=[1]: no such choice; have cityscapes, "),
        ("train", "=1", "=1: the setting's name is missing; give KEY=VALUE"),
        ("train", "schedule.max_steps=0", "trainer.max_steps=0: expected a number above 0"),
        ("train", "data.image.crop_px=[1,1]", "data.image.crop_px=[1, 1]: expected 32 pixels"),
        ("train", "data.image.eval_short_side_px=1", "data.image.eval_short_side_px=1: expected"),
        ("train", "stage=foo", "stage='foo': expected one of panoptic, occlusion, ranking, all"),
        ("train", "all_stages=[foo]", "all_stages='foo': expected one of panoptic, occlusion"),
        ("train", "fusion.relations.sigma=abc", "fusion.relations.sigma: value 'abc' of type"),
        ("evaluate", "fusion.relations.sigma=abc", "fusion.relations.sigma: value 'abc' of type"),
        ("train", "seed=${foo}", "seed: Interpolation key 'foo' not found"),
    ],
)
def test_an_override_is_refused(command, override, line):
    with refused(line) as caught:
        compose(command, [*GIVEN[command], override])
    assert str(caught.value).startswith(line)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"relations.sigma": "abc"}, "relations.sigma: value 'abc' of type 'str' could not be"),
        ({"relations.sigma": None}, "relations.sigma: null is not allowed; give a value"),
        ({"relations.sigmo": 1}, "relations.sigmo: no such setting; did you mean relations.sigma?"),
        ({"relations.sigma": -1}, "fusion.relations.sigma=-1.0: expected a number above 0"),
    ],
)
def test_a_change_of_options_is_refused(changes, line):
    with refused(line):
        to_options({}, FusionOptions, changes=changes)
