import io

import numpy as np
import pytest
from PIL import Image

from refine.coco_format.png import decode_segment_png, encode_segment_png
from refine.errors import RefineError


def png(pixels):
    target = io.BytesIO()
    Image.fromarray(np.array(pixels, np.uint8)).save(target, "PNG")
    return target.getvalue()


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        ([[1, 0, 0], [0, 1, 0], [0, 0, 1], [255, 255, 255]], [1, 256, 65536, 2**24 - 1]),
        ([[1, 2, 3, 0], [1, 2, 3, 200]], [197121, 197121]),  # alpha is ignored
    ],
)
def test_id_is_red_plus_256_green_plus_65536_blue(pixels, expected):
    ids = decode_segment_png(png([pixels]), source="x.png")
    assert ids.tolist() == [expected]
    assert ids.dtype == np.int32
    assert ids.flags.writeable


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (33, 65), (129, 3)])
def test_round_trip(size):
    ids = np.random.default_rng(0).integers(0, 2**24, size).astype(np.int32)
    ids.flat[0], ids.flat[-1] = 0, 2**24 - 1
    data = encode_segment_png(ids)
    assert (decode_segment_png(data, source="x") == ids).all()
    assert encode_segment_png(np.asfortranarray(ids)) == data
    rgb = np.asarray(Image.open(io.BytesIO(data)))
    assert np.array_equal(rgb @ np.array([1, 256, 65536]), ids)
    for wrong in (-1, 2**24):
        ids.flat[0] = wrong
        with pytest.raises(ValueError, match="24 bits"):
            encode_segment_png(ids)


def with_header(bits, color_type):
    data = png(np.zeros((2, 2, 3)))
    return data[:24] + bytes([bits, color_type]) + data[26:]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (with_header(8, 0), "a 8-bit greyscale PNG; .*8-bit RGB"),
        (with_header(16, 0), "a 16-bit greyscale PNG"),
        (with_header(8, 4), "a 8-bit greyscale with alpha PNG"),
        (with_header(8, 3), "a 8-bit palette PNG"),
        (with_header(16, 2), "a 16-bit RGB PNG"),
        (b"", "not a PNG"),
        (b"GIF89a", "not a PNG"),
        (b"\xff\xd8\xff\xe0 a jpeg", "not a PNG"),
    ],
)
def test_other_kinds_are_named(data, expected):
    with pytest.raises(RefineError, match=rf"^maps/a\.png: {expected}"):
        decode_segment_png(data, source="maps/a.png")


def read(data):
    """The ids, or what the refusal says."""
    try:
        return decode_segment_png(data, source="a.png")
    except RefineError as error:
        return str(error)


def test_a_file_cut_anywhere_is_refused_or_whole():
    ids = np.random.default_rng(1).integers(0, 2**24, (12, 9)).astype(np.int32)
    data = encode_segment_png(ids)
    answers = [read(data[:length]) for length in range(len(data))]
    refusals = [answer for answer in answers if isinstance(answer, str)]
    assert all((a == ids).all() for a in answers if not isinstance(a, str))
    assert all(text.startswith("a.png: ") and "\n" not in text for text in refusals)
    # all but the end of the stream (14 bits), two checksums and the closing chunk
    assert len(refusals) >= len(data) - 22
    for position in range(len(data)):  # a flipped byte never escapes as another error
        answer = read(data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :])
        assert not isinstance(answer, str) or answer.startswith("a.png: ")
