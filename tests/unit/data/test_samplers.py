import numpy as np
import pytest

from make.errors import refused
from refine.data.samplers import TrainBatchSampler, eval_places


def _wide(num_wide, num_tall):
    is_wide = np.array([True] * num_wide + [False] * num_tall)
    return np.random.default_rng(0).permutation(is_wide)


def _batches(is_wide, epoch=0, done=0, **settings):
    settings = {"batch_size": 4, "seed": 1} | settings
    return list(TrainBatchSampler(is_wide, position=lambda: (epoch, done), **settings))


def _places(batches):
    return [key.place for batch in batches for key in batch]


@pytest.mark.parametrize(
    ("num_wide", "num_tall"), [(13, 6), (12, 8), (3, 3), (7, 0), (0, 9), (1, 30), (4, 0), (5, 3)]
)
def test_an_epoch_has_full_batches_of_different_images(num_wide, num_tall):
    is_wide = _wide(num_wide, num_tall)
    sampler = TrainBatchSampler(is_wide, batch_size=4, seed=1)
    batches = list(sampler)
    assert len(batches) == len(sampler) == (num_wide + num_tall) // 4
    assert all(len(batch) == 4 for batch in batches)
    places = _places(batches)
    assert len(set(places)) == len(places)


def test_only_the_last_batch_mixes_and_wide_and_tall_ones_alternate():
    is_wide = _wide(22, 18)
    for epoch in range(5):
        *batches, last = _batches(is_wide, epoch)
        assert all(len({is_wide[key.place] for key in batch}) == 1 for batch in batches)
        assert {is_wide[key.place] for key in last} == {True, False}
    is_wide = _wide(400, 400)
    kinds = [is_wide[batch[0].place] for batch in _batches(is_wide)]
    assert np.count_nonzero(np.diff(kinds)) > 60


def test_the_order_is_a_function_of_seed_and_epoch():
    is_wide = _wide(30, 30)
    assert {key.epoch for batch in _batches(is_wide, epoch=5) for key in batch} == {5}
    orders = {(s, e): tuple(_places(_batches(is_wide, e, seed=s))) for s in (1, 2) for e in (0, 1)}
    assert len(set(orders.values())) == 4
    assert tuple(_places(_batches(is_wide, 1, seed=2))) == orders[2, 1]
    # images that one epoch leaves out come in others
    seen = {place for epoch in range(20) for place in _places(_batches(_wide(6, 5), epoch))}
    assert seen == set(range(11))


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_together_see_what_one_device_would(world_size):
    is_wide = _wide(13, 10)
    shares = [_batches(is_wide, rank=r, world_size=world_size) for r in range(world_size)]
    together = [[key for part in parts for key in part] for parts in zip(*shares, strict=True)]
    assert together == _batches(is_wide)
    with refused("batch_size=4 cannot be shared by 3 devices"):
        TrainBatchSampler(is_wide, batch_size=4, seed=1, world_size=3)


def test_iterations_start_at_the_position_of_their_beginning():
    is_wide = _wide(12, 8)
    for done in (0, 1, 4, 5):
        assert _batches(is_wide, 3, done) == _batches(is_wide, 3)[done:]
    positions = iter([(0, 3), (1, 0)])
    sampler = TrainBatchSampler(is_wide, batch_size=4, seed=1, position=lambda: next(positions))
    iterator = iter(sampler)
    assert next(positions) == (1, 0)
    assert [key.epoch for key in next(iterator)] == [0] * 4


def test_a_dataset_smaller_than_a_batch_makes_one_short_batch():
    (batch,) = _batches(_wide(2, 1))
    assert sorted(_places([batch])) == [0, 1, 2]
    assert len(TrainBatchSampler(_wide(2, 1), batch_size=4, seed=1)) == 1
    shares = [_batches(_wide(2, 1), rank=r, world_size=4) for r in range(4)]
    assert [len(_places(share)) for share in shares] == [1, 1, 1, 1]
    assert {place for share in shares for place in _places(share)} == {0, 1, 2}


@pytest.mark.parametrize(("num_images", "world_size"), [(10, 1), (10, 3), (9, 3), (1, 4), (2, 4)])
def test_evaluation_gives_every_image_once(num_images, world_size):
    shares = [eval_places(num_images, rank=r, world_size=world_size) for r in range(world_size)]
    assert len({len(share) for share in shares}) == 1
    places = [place for share in shares for place in share]
    assert sorted(p for p in places if p < num_images) == list(range(num_images))
    assert len([p for p in places if p >= num_images]) < world_size
