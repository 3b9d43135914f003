"""A processor's own words, and what the trainer makes of them."""

import pytest

from make.errors import refused
from refine.config import compose
from refine.options import trainer
from refine.options.processor import has_half_units

FLAGS = "processor\t: 0\nflags\t\t: fpu sse2 {}\nbugs\t\t:\n\nprocessor\t: 1\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FLAGS.format("avx512f avx512_bf16"), True),
        (FLAGS.format("amx_bf16 amx_tile"), True),
        (FLAGS.format("avx512f avx512vl"), False),
        ("Features\t: fp asimd bf16\n", True),
        ("Features\t: fp asimd\nmodel name\t: bf16\n", False),
        ("", False),
    ],
)
def test_units_for_bfloat16(tmp_path, text, expected):
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert has_half_units(path) == expected


def test_no_such_file(tmp_path):
    assert not has_half_units(tmp_path / "none")


@pytest.mark.parametrize(("has_units", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_the_fast_trainer_is_that_of_the_processor(monkeypatch, has_units, expected):
    monkeypatch.setattr(trainer, "has_half_units", lambda: has_units)
    chosen = compose("train", ["trainer=cpu_fast"]).trainer
    assert (chosen.accelerator, chosen.precision) == ("cpu", expected)


def test_a_gpu_needs_no_such_choice():
    with refused("trainer.precision", "bf16-mixed"):
        compose("train", ["trainer=gpu", "trainer.precision=fast"])
