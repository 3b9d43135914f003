"""A short run of ``make fuzz``."""

from collections import Counter

import pytest

import fuzz_borders


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    root = tmp_path_factory.mktemp("originals")
    fuzz_borders.make_originals(root)
    return root


def test_damaged_files_are_read_or_refused(originals):
    outcomes = fuzz_borders.run(80, 0, originals=originals)
    counts = Counter(outcomes.values())
    assert len(outcomes) == 80
    assert set(counts) == {fuzz_borders.READ, fuzz_borders.REFUSED}, outcomes


def test_another_exception_and_a_long_message_are_found(originals, monkeypatch):
    def fail(_):
        raise KeyError("x")

    borders = {"images": (1, "images", fail)}
    monkeypatch.setattr(fuzz_borders, "BORDERS", borders)
    assert "KeyError at test_fuzz.py" in fuzz_borders.run_case(originals, 0, 0)
