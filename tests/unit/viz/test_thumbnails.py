import io

import numpy as np
import pytest
from PIL import Image

from refine.errors import RefineError
from refine.viz.files import write_png
from refine.viz.thumbnails import encode_jpeg, read_picture


def decode(jpeg):
    return np.asarray(Image.open(io.BytesIO(jpeg)))


@pytest.mark.parametrize(
    ("size", "expected"), [((40, 100), (20, 50)), ((30, 50), (30, 50)), ((1, 500), (1, 50))]
)
def test_wide_pictures_shrink_and_keep_their_shape(size, expected):
    picture = np.full((*size, 3), (200, 30, 60), np.uint8)
    decoded = decode(encode_jpeg(picture, max_width_px=50))
    assert decoded.shape == (*expected, 3)
    assert np.abs(decoded.astype(int) - (200, 30, 60)).max() <= 4


def test_a_picture_is_read_back(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    write_png(tmp_path / "a.png", picture)
    assert np.array_equal(read_picture(tmp_path / "a.png"), picture)


def test_a_damaged_picture_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    for name in ("a.png", "b.png"):
        with pytest.raises(RefineError, match=rf"{name}: cannot be read as an image"):
            read_picture(tmp_path / name)
