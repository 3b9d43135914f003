import io
import warnings

import numpy as np
import pytest
from PIL import Image

from refine.data.images import decode_image
from refine.errors import RefineError


def _encoded(image, kind="JPEG", **settings):
    target = io.BytesIO()
    image.save(target, kind, **settings)
    return target.getvalue()


def _smooth(mode="RGB"):
    ramp = np.linspace(0, 255, 48).astype(np.uint8)
    pixels = np.stack(np.broadcast_arrays(ramp[:32, None], ramp, ramp[::-1]), axis=-1)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_of_every_kind_become_rgb(mode):
    pixels = decode_image(_encoded(_smooth(mode), quality=95), source="a.jpg")
    assert pixels.shape == (32, 48, 3)
    assert pixels.dtype == np.uint8
    expected = np.asarray(_smooth(mode).convert("RGB")).astype(int)
    assert np.abs(pixels - expected).mean() < 3


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1"])
def test_pngs_become_rgb(mode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_image(_encoded(_smooth(mode), "PNG"), source="a.png").shape == (32, 48, 3)


def test_orientation_is_not_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(_encoded(_smooth(), exif=exif), source="a.jpg").shape == (32, 48, 3)


def test_a_one_pixel_image():
    image = Image.fromarray(np.full((1, 1, 3), 7, np.uint8))
    assert decode_image(_encoded(image, "PNG"), source="a.png").tolist() == [[[7, 7, 7]]]


@pytest.mark.parametrize("share", [0, 0.05, 0.5, 0.95])
def test_truncated_files_are_named(share):
    data = _encoded(_smooth())
    with pytest.raises(RefineError, match=r"^x/a.jpg: damaged image .*get the file again$"):
        decode_image(data[: int(len(data) * share)], source="x/a.jpg")


def test_other_files_are_named():
    with pytest.raises(RefineError, match=r"a.jpg: damaged image"):
        decode_image(b"<html>not found</html>", source="a.jpg")


def test_sixteen_bits_are_refused():
    image = Image.fromarray(np.full((4, 4), 40_000, np.uint16))
    with pytest.raises(RefineError, match=r"a.png: .*convert it to 8 bits"):
        decode_image(_encoded(image, "PNG"), source="a.png")
