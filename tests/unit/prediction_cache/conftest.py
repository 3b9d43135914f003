"""A finished cache of three images."""

import pytest

from make.predictions import IDS, SMALL, a_header, fake_prediction, write_all


@pytest.fixture
def raws():
    return {i: fake_prediction(**SMALL, seed=i) for i in IDS}


@pytest.fixture
def cache(tmp_path, raws):
    write_all(tmp_path / "cache", a_header(), raws)
    return tmp_path / "cache"
