import io

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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("JPEG", mode) for mode in ("RGB", "L", "CMYK")),
        *(("PNG", mode) for mode in ("RGB", "RGBA", "P", "L", "LA", "1")),
    ],
)
def test_files_of_every_kind_become_rgb(kind, mode):
    exif = Image.Exif()
    exif[0x0112] = 6  # an orientation, which is not applied
    pixels = decode_image(_encoded(_smooth(mode), kind, quality=95, exif=exif), source="a.jpg")
    assert pixels.shape == (32, 48, 3)
    assert pixels.dtype == np.uint8
    expected = np.asarray(_smooth(mode).convert("RGB")).astype(int)
    assert np.abs(pixels - expected).mean() < 3


def test_damaged_files_and_sixteen_bits_are_named():
    data = _encoded(_smooth())
    cut = [data[: int(len(data) * share)] for share in (0, 0.05, 0.5, 0.95)]
    for damaged in (*cut, b"<html>not found</html>"):
        with pytest.raises(RefineError, match=r"^x/a.jpg: damaged image .*get the file again$"):
            decode_image(damaged, source="x/a.jpg")
    image = Image.fromarray(np.full((4, 4), 40_000, np.uint16))
    with pytest.raises(RefineError, match=r"a.png: .*convert it to 8 bits"):
        decode_image(_encoded(image, "PNG"), source="a.png")
