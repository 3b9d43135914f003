import io
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from refine.coco_format.png import decode_segment_png
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
    exif[0x0112] = 6  # an orientation, which is not applied if the annotations fit without it
    data = _encoded(_smooth(mode), kind, quality=95, exif=exif)
    pixels = decode_image(data, source="a.jpg", size=(32, 48))
    assert pixels.shape == (32, 48, 3)
    assert pixels.dtype == np.uint8
    expected = np.asarray(_smooth(mode).convert("RGB")).astype(int)
    assert np.abs(pixels - expected).mean() < 3


def test_damaged_files_and_more_than_sixteen_bits_are_named():
    data = _encoded(_smooth())
    cut = [data[: int(len(data) * share)] for share in (0, 0.05, 0.5, 0.95)]
    for damaged in (*cut, b"<html>not found</html>"):
        with pytest.raises(RefineError, match=r"^x/a.jpg: damaged image .*get the file again$"):
            decode_image(damaged, source="x/a.jpg")
    for values in (np.full((4, 4), 0.5, np.float32), np.full((4, 4), 70_000, np.int32)):
        with pytest.raises(RefineError, match=r"a.tif: .*convert it to 8 bits"):
            decode_image(_encoded(Image.fromarray(values), "TIFF"), source="a.tif")


@pytest.mark.parametrize(
    ("kind", "dtype"), [("PNG", "<u2"), ("PPM", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2")]
)
def test_sixteen_bits_are_scaled_to_eight(kind, dtype):
    values = np.linspace(0, 65535, 48 * 32).astype(dtype).reshape(32, 48)
    image = Image.fromarray(values)
    pixels = decode_image(_encoded(image, kind), source="a")
    expected = np.array([[round(v / 257) for v in row] for row in values.tolist()], np.uint8)
    assert np.array_equal(pixels, np.repeat(expected[:, :, None], 3, axis=2))


def test_what_is_transparent_lies_on_white():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (32, 48, 4), dtype=np.uint8)
    values[:8, :, 3], values[8:16, :, 3] = 0, 255
    share = values[:, :, 3:] / 255
    on_white = values[:, :, :3] * share + 255 * (1 - share)
    for kind, settings in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        pixels = decode_image(_encoded(Image.fromarray(values), kind, **settings), source="a")
        assert np.abs(pixels - on_white).max() <= 1
        assert np.array_equal(pixels[8:16], values[8:16, :, :3])
    grey = Image.merge("LA", [Image.fromarray(values[:, :, k].copy()) for k in (0, 3)])
    pixels = decode_image(_encoded(grey, "PNG"), source="a")
    assert np.abs(pixels - on_white[:, :, :1]).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_colour_of_a_palette_is_white(kind):
    index = np.random.default_rng(0).integers(0, 4, (32, 48), dtype=np.uint8)
    palette = [200, 0, 0, 0, 200, 0, 0, 0, 200, 9, 9, 9]
    image = Image.frombytes("P", (48, 32), index.tobytes())
    image.putpalette(palette)
    pixels = decode_image(_encoded(image, kind, transparency=1), source="a")
    colors = np.array(palette, np.uint8).reshape(4, 3)
    colors[1] = 255
    assert np.array_equal(pixels, colors[index])


def _as_seen(pixels, orientation):
    """What EXIF 2.3 says of where row 0 and column 0 of the stored pixels are seen."""
    turned = pixels.transpose(1, 0, 2) if orientation >= 5 else pixels
    right, bottom = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    return turned[:: -1 if bottom else 1, :: -1 if right else 1]


def _tagged(orientation, size=(32, 48)):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return pixels, _encoded(Image.fromarray(pixels), "PNG", exif=exif)


@pytest.mark.parametrize("orientation", range(10))
def test_an_image_is_as_seen_unless_annotations_fit_what_is_stored(orientation, tmp_path, caplog):
    stored, data = _tagged(orientation)
    seen = _as_seen(stored, orientation if 1 <= orientation <= 8 else 1)
    source = str(tmp_path / "a.png")
    assert np.array_equal(decode_image(data, source=source), seen)
    assert caplog.text == ""
    assert np.array_equal(decode_image(data, source=source, size=(32, 48)), stored)
    assert ("EXIF orientation" in caplog.text) == (orientation in (2, 3, 4))
    if orientation in (5, 6, 7, 8):
        assert np.array_equal(decode_image(data, source=source, size=(48, 32)), seen)
        assert caplog.text == ""
    square, data = _tagged(orientation, (9, 9))
    assert np.array_equal(decode_image(data, source=source, size=(9, 9)), square)
    assert caplog.text.count("EXIF orientation") == (2 <= orientation <= 8)  # once for a folder
    with pytest.raises(RefineError, match=r"a.png: 9 x 9 pixels, but the JSON says 7 x 7"):
        decode_image(data, source=source, size=(7, 7))


def test_an_image_that_fits_no_way_is_refused_with_its_exif():
    _, data = _tagged(6)
    with pytest.raises(RefineError, match=r"32 x 48 by its EXIF.* 48 x 32 pixels, .*says 7 x 9;"):
        decode_image(data, source="a.png", size=(9, 7))


@pytest.mark.parametrize("side", [10_000, 20_000, 2**31 - 1])
def test_a_huge_image_is_refused_before_it_is_decoded(side):
    data = bytearray(_encoded(Image.new("RGB", (1, 1)), "PNG"))
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    tracemalloc.start()
    with pytest.raises(RefineError, match=r"^a.png: .*more than 89478485 pixels; make it smaller"):
        decode_image(bytes(data), source="a.png")
    with pytest.raises(RefineError, match=rf"^a.png: {side} x {side} pixels, but the JSON says"):
        decode_segment_png(bytes(data), source="a.png", size=(1, 1))
    with pytest.raises(RefineError, match=r"^a.png: .*more than 89478485 pixels; make it smaller"):
        decode_segment_png(bytes(data), source="a.png")
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
