import io
import zlib

import numpy as np
import pytest
from PIL import Image

from refine.coco_format.png import decode_segment_png, encode_segment_png
from refine.errors import RefineError


def png(array, mode=None):
    image, target = Image.fromarray(array), io.BytesIO()
    (image.convert(mode) if mode else image).save(target, "PNG")
    return target.getvalue()


def test_id_is_red_plus_256_green_plus_65536_blue():
    pixels = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [255, 255, 255]]], np.uint8)
    ids = decode_segment_png(png(pixels), source="x.png")
    assert ids.tolist() == [[1, 256, 65536, 2**24 - 1]]
    assert ids.dtype == np.int32
    assert ids.flags.writeable


def test_alpha_is_ignored():
    pixels = np.array([[[1, 2, 3, 0], [1, 2, 3, 200]]], np.uint8)
    assert decode_segment_png(png(pixels), source="x").tolist() == [[197121, 197121]]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (33, 65)])
def test_round_trip(size):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 2**24, size).astype(np.int32)
    ids.flat[0], ids.flat[-1] = 0, 2**24 - 1
    assert (decode_segment_png(encode_segment_png(ids), source="x") == ids).all()
    columns = np.asfortranarray(ids)
    assert encode_segment_png(columns) == encode_segment_png(ids)


def test_written_files_are_plain_rgb():
    data = encode_segment_png(np.array([[1, 65536]], np.int32))
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "RGB"
        assert np.asarray(image).tolist() == [[[1, 0, 0], [0, 0, 1]]]


@pytest.mark.parametrize("wrong", [-1, 2**24])
def test_ids_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match="24 bits"):
        encode_segment_png(np.array([[0, wrong]], np.int32))


def _sixteen_bits():
    """Pillow writes no 16-bit RGB, so this one is put together by hand."""

    def chunk(kind, body):
        crc = zlib.crc32(kind + body)
        return len(body).to_bytes(4, "big") + kind + body + crc.to_bytes(4, "big")

    header = (1).to_bytes(4, "big") * 2 + bytes([16, 2, 0, 0, 0])
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + bytes(6)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (png(np.zeros((2, 2), np.uint8)), "8-bit greyscale"),
        (png(np.zeros((2, 2), np.uint16)), "16-bit greyscale"),
        (png(np.zeros((2, 2, 2), np.uint8)), "8-bit greyscale with alpha"),
        (png(np.zeros((4, 4), np.uint8), "P"), "8-bit palette"),
        (_sixteen_bits(), "16-bit RGB"),
    ],
)
def test_other_kinds_are_named(data, found):
    with pytest.raises(RefineError, match=rf"^maps/a\.png: a {found} PNG; .*8-bit RGB"):
        decode_segment_png(data, source="maps/a.png")


def test_no_png_at_all():
    for data in (b"", b"GIF89a", b"\xff\xd8\xff\xe0 a jpeg"):
        with pytest.raises(RefineError, match=r"^a\.png: not a PNG"):
            decode_segment_png(data, source="a.png")


def _read(data):
    """The ids, or what the refusal says."""
    try:
        return decode_segment_png(data, source="a.png")
    except RefineError as error:
        return str(error)


def test_a_file_cut_anywhere_is_refused_or_whole():
    ids = np.random.default_rng(1).integers(0, 2**24, (12, 9)).astype(np.int32)
    data = encode_segment_png(ids)
    answers = [_read(data[:length]) for length in range(len(data))]
    refusals = [answer for answer in answers if isinstance(answer, str)]
    assert all((a == ids).all() for a in answers if not isinstance(a, str))
    assert all(text.startswith("a.png: ") and "\n" not in text for text in refusals)
    assert len(refusals) >= len(data) - 20, "only the closing chunk can be spared"
    for position in range(len(data)):  # a flipped byte never escapes as another error
        answer = _read(data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :])
        assert not isinstance(answer, str) or answer.startswith("a.png: ")
