"""Compressed semantic logits say the same as the full ones."""

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from make.predictions import fake_prediction, smooth_logits
from refine.fusion.semantic import semantic_map
from refine.prediction_cache.forms import from_tensors, to_tensors
from refine.prediction_cache.semantic_evidence import compress_logits, restore_logits

ALL = 255  # more entries a cell than there are


@st.composite
def semantic_logits(draw):
    """Smooth or wild, sharp or flat, with exact ties, from one cell up to several strips."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    size = (draw(st.integers(1, 40)), draw(st.integers(1, 20)))
    num_categories = draw(st.integers(1, 30))
    kind = draw(st.sampled_from(["smooth", "wild", "ties", "one-hot"]))
    scale = draw(st.sampled_from([0.1, 1.0, 10.0, 1000.0]))
    if kind == "smooth":
        seed = draw(st.integers(0, 2**31))
        return scale * smooth_logits(
            num_categories=num_categories, size=size, dominant=5, cell=6, seed=seed
        )
    values = torch.randn(num_categories, *size, generator=generator)
    if kind == "ties":
        values = values.round()
    elif kind == "one-hot":
        values = (values == values.amax(dim=0)).float()
    return scale * values


@settings(max_examples=80)
@given(logits=semantic_logits(), zoom=st.sampled_from([0.3, 0.7, 1.0, 1.3]))
def test_every_category_that_can_win_is_kept(logits, zoom):
    restored = restore_logits(compress_logits(logits, entries_per_cell=ALL), len(logits))
    network = tuple(max(4 * side - 5, 1) for side in logits.shape[1:])  # the rest is padding
    original = tuple(max(round(side * zoom), 1) for side in network)
    gaps = (logits - logits.amax(dim=0)).clamp(min=-65504).half()  # rounded as the entries are
    expected = semantic_map(gaps, network, original)
    assert np.array_equal(semantic_map(restored, network, original), expected)


@settings(max_examples=80)
@given(logits=semantic_logits(), entries=st.integers(1, 8))
def test_cells_keep_their_best_category_and_its_probability(logits, entries):
    parts = compress_logits(logits, entries_per_cell=entries)
    cells = logits[0].numel()
    assert len(parts["gaps"]) == len(parts["categories"]) <= entries * cells
    assert parts["counts"].min() >= 1
    assert parts["counts"].sum() == len(parts["gaps"])
    restored = restore_logits(parts, len(logits))
    assert restored.shape == logits.shape
    assert restored.dtype == torch.float32
    before, after = logits.softmax(dim=0), restored.softmax(dim=0)
    assert (before.amax(dim=0) - after.amax(dim=0)).abs().max() < 2e-3
    best = after.argmax(dim=0, keepdim=True)
    assert torch.allclose(before.gather(0, best)[0], before.amax(dim=0), rtol=1e-5)


@settings(max_examples=50)
@given(logits=semantic_logits(), entries=st.integers(1, 8))
def test_a_floor_never_wins(logits, entries):
    parts = compress_logits(logits, entries_per_cell=entries)
    restored = restore_logits(parts, len(logits))
    assert parts["floor"].max() <= 0
    # the floor is a mean of what has no entry: not above the highest of it, but for rounding;
    # further down float32 has few digits left for exponentials
    has_none = (restored == parts["floor"].float()) & (parts["floor"] > -80)
    gaps = logits - logits.amax(dim=0)
    highest = gaps.masked_fill(~has_none, -math.inf).amax(dim=0)
    slack = 1e-2 + 1e-3 * highest.abs()
    assert (parts["floor"] <= highest + slack)[has_none.any(dim=0)].all()


@settings(max_examples=30)
@given(
    seed=st.integers(0, 1000),
    count=st.integers(0, 9),
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    form=st.sampled_from(["compact", "half", "full"]),
)
def test_a_form_read_is_written_the_same_again(seed, count, size, form):
    shape = {"num_things": 3, "num_categories": 7, "image_size": size, "original_size": size}
    raw = fake_prediction(
        **shape, num_detections=count, seed=seed, heads=("a",), rankings=("r",), dominant=4, cell=6
    )
    once = to_tensors(raw, form)
    sizes = {"image_size": size, "original_size": size}
    again = to_tensors(from_tensors(once, 7, num_things=3, **sizes), form)
    assert once.keys() == again.keys()
    for name in once.keys() - {"semantic/counts", "semantic/categories", "semantic/floor"}:
        if name != "semantic/gaps" or form == "half":
            assert torch.equal(once[name], again[name]), name
