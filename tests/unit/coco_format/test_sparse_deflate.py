"""Our compressor of bytes that are nearly all 0, against zlib's decompression."""

import zlib

import numpy as np
import pytest

from refine.coco_format.sparse_deflate import deflate_sparse


def inflated(data, places):
    """What zlib reads of the stream for ``data``, in which only ``places`` are not 0."""
    packer = zlib.decompressobj()
    found = packer.decompress(deflate_sparse(places, data[places].astype(np.int64), len(data)))
    assert packer.eof
    assert packer.unused_data == b""
    return found


@pytest.mark.parametrize("value", [1, 2, 128, 255])
def test_runs_of_zeros_of_every_length(value):
    # repetitions have at least 3 and at most 258 zeros, and come after one
    gaps = np.r_[0:1100, 258 * 12 - 2 : 258 * 12 + 4, 100_000]
    places = np.append(0, np.cumsum(gaps + 1))
    data = np.zeros(places[-1] + 1, np.uint8)
    data[places] = value
    assert inflated(data, places) == data.tobytes()
    for end in range(0, 600, 7):  # zeros at the end
        longer = np.append(data[:5], np.zeros(end, np.uint8))
        assert inflated(longer, np.flatnonzero(longer)) == longer.tobytes()


@pytest.mark.parametrize("share", [0.001, 0.1, 0.9, 1.0])
def test_random_bytes_in_any_order(share):
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 63, 64, 65, 1000, 70_000):
        data = (rng.integers(1, 256, size) * (rng.random(size) < share)).astype(np.uint8)
        data[0] = 2
        places = rng.permutation(np.flatnonzero(data))
        assert inflated(data, places) == data.tobytes()


def test_zeros_among_the_values_are_zeros():
    places, values = np.array([5, 0, 2]), np.array([0, 3, 7])
    assert zlib.decompress(deflate_sparse(places, values, 9)) == bytes([3, 0, 7, 0, 0, 0, 0, 0, 0])
