"""Segment maps as COCO's PNGs: id = R + 256 G + 65536 B, 0 is void."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from refine.coco_format.sparse_deflate import deflate_sparse
from refine.errors import RefineError, first_line
from refine.ops.arrays import find_label_runs

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_PIXELS = 89_478_485
"""Pixels of the largest image that is read, a gigabyte while it is decoded: Pillow's own limit."""

PILLOW_ERRORS = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
"""What Pillow raises about damaged files."""

_ROWS_A_CHUNK = 64
_UP = 2  # the filter of a line that holds differences to the line above
_COLOR_TYPES = {0: "greyscale", 2: "RGB", 3: "palette", 4: "greyscale with alpha", 6: "RGBA"}


def decode_segment_png(
    data: bytes, *, source: str, size: tuple[int, int] | None = None
) -> np.ndarray:
    """The segment map in the content of a PNG: ``[H, W]`` int32 ids in ``0 .. 2**24 - 1``.

    Alpha is ignored. ``source`` is the file name shown in error messages, and ``size`` the
    ``(height, width)`` that the map has to have, which is looked at before the pixels are decoded.

    Raises:
        RefineError: Truncated, unreadable, of another size or a huge one, or no PNG of 8-bit RGB
            or RGBA.
    """
    (height, width), bits, found = _read_header(data, source)
    if bits != 8 or found not in ("RGB", "RGBA"):
        raise RefineError(
            f"{source}: a {bits}-bit {found} PNG; a segment map is 8-bit RGB "
            "with id = R + 256 G + 65536 B"
        )
    check_size((height, width), size, source=source)
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            # Pillow holds four bytes per pixel; asking for all four makes the id a single int
            pixels = image.tobytes("raw", "RGBA" if image.mode == "RGBA" else "RGBX")
            width, height = image.size
    except PILLOW_ERRORS as error:
        reason = explain_pillow(error)
        raise RefineError(f"{source}: damaged PNG ({reason}); get the file again") from None
    ids: np.ndarray = np.frombuffer(pixels, "<i4").reshape(height, width) & 0xFFFFFF
    return ids


def decode_label_png(
    data: bytes, *, source: str, size: tuple[int, int] | None = None
) -> np.ndarray:
    """The numbers in the content of a PNG as they are stored.

    They are ``[H, W]`` integers of 16 bits at most, grey values or places in a palette; or
    ``[H, W, C]`` uint8 of two to four channels. ``source`` and ``size`` are as of
    :func:`decode_segment_png`.

    Raises:
        RefineError: Truncated, unreadable, of another size or a huge one, no PNG, or one of several
            channels of 16 bits.
    """
    shape, bits, kind = _read_header(data, source)
    if bits == 16 and kind != "greyscale":
        raise RefineError(f"{source}: a 16-bit {kind} PNG; channels of label maps have 8 bits")
    check_size(shape, size, source=source)
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if kind == "greyscale" and bits < 8:  # Pillow stretches them to 0 .. 255
                factor = 255 // (2**bits - 1)
                values: np.ndarray = np.asarray(image.convert("L")) // factor
            else:
                values = np.asarray(image)
            return values
    except PILLOW_ERRORS as error:
        reason = explain_pillow(error)
        raise RefineError(f"{source}: damaged PNG ({reason}); get the file again") from None


def _read_header(data: bytes, source: str) -> tuple[tuple[int, int], int, str]:
    """``(height, width)``, bits of a channel and the kind of colours.

    Pillow reads 16 bits as 8 and palettes as grey without a word.
    """
    if not data.startswith(_SIGNATURE):
        raise RefineError(f"{source}: not a PNG file; maps of segments and labels are PNGs")
    if len(data) < 26:
        raise RefineError(f"{source}: damaged PNG ({len(data)} bytes); get the file again")
    width, height, bits, color_type = struct.unpack_from(">IIBB", data, 16)
    return (height, width), bits, _COLOR_TYPES.get(color_type, f"colour type {color_type}")


def check_size(found: tuple[int, int], wanted: tuple[int, int] | None, *, source: str) -> None:
    """Refuse another ``(height, width)`` than the wanted one of the JSON, and huge ones.

    A :class:`RefineError` begins with ``source``.
    """
    width, height = found[1], found[0]
    if wanted is not None and found != wanted:
        raise RefineError(
            f"{source}: {width} x {height} pixels, but the JSON says {wanted[1]} x {wanted[0]}; "
            "fix one of them"
        )
    if width * height > MAX_PIXELS:
        raise RefineError(
            f"{source}: {width} x {height} are more than {MAX_PIXELS} pixels; make it smaller or "
            "cut it into several"
        )


def explain_pillow(error: Exception) -> str:
    """The reason for one of :data:`PILLOW_ERRORS` without Pillow's internals."""
    if isinstance(error, UnidentifiedImageError):
        return "no image of a known kind"
    return first_line(error)


def encode_segment_png(ids: np.ndarray) -> bytes:
    """A segment map, ``[H, W]`` int32 in ``0 .. 2**24 - 1``, as an 8-bit RGB PNG.

    Raises:
        ValueError: An id outside this range.
    """
    columns = np.ascontiguousarray(ids.T)
    return encode_column_runs(*find_label_runs(columns), (ids.shape[0], ids.shape[1]))


def encode_column_runs(values: np.ndarray, lengths: np.ndarray, size: tuple[int, int]) -> bytes:
    """The PNG of a segment map of ``size`` (height, width), given by its runs column by column.

    ``values`` are the ``[R]`` ids of runs that end with their column, ``lengths`` their pixels.

    Raises:
        ValueError: An id outside ``0 .. 2**24 - 1``.
    """
    if len(values) and (int(values.min()) < 0 or int(values.max()) >= 2**24):
        raise ValueError(f"ids {values.min()} .. {values.max()} do not fit into 24 bits")
    height, width = size
    differences = _find_differences(values, lengths, size)
    return _join(height, width, [deflate_sparse(*differences, height * (1 + 3 * width))])


def _find_differences(
    values: np.ndarray, lengths: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Places and int64 values of all bytes other than 0 in the lines, filtered by `_UP`."""
    height, width = size
    columns, rows = np.divmod(np.cumsum(lengths) - lengths, height)
    above = np.where(rows, np.roll(values, 1), 0)
    pixels = rows * (1 + 3 * width) + 1 + 3 * columns
    places, changes = [np.arange(height) * (1 + 3 * width)], [np.full(height, _UP)]
    for channel in range(3):
        change = (values >> 8 * channel) - (above >> 8 * channel) & 0xFF
        places.append(pixels + channel)
        changes.append(change.astype(np.int64))
        if not (values >> 8 * (channel + 1)).any():
            break
    return np.concatenate(places), np.concatenate(changes)


def encode_png(pixels: np.ndarray) -> bytes:
    """``[H, W, 3]`` uint8 RGB, at least one pixel, as a PNG.

    Lines are packed as differences to the line above, by run lengths and Huffman codes alone: flat
    regions become runs of zeros, and noise of photographs has no repetitions to look for. That
    takes a fifteenth of the time of Pillow's defaults at a seventh more bytes.
    """
    height, width, _ = pixels.shape
    packer = zlib.compressobj(strategy=zlib.Z_RLE)
    parts = []
    above = np.zeros(width * 3, np.uint8)
    for top in range(0, height, _ROWS_A_CHUNK):
        lines = pixels[top : top + _ROWS_A_CHUNK].reshape(-1, width * 3)
        filtered = np.full((len(lines), 1 + width * 3), _UP, np.uint8)
        np.subtract(lines[0], above, out=filtered[0, 1:])
        np.subtract(lines[1:], lines[:-1], out=filtered[1:, 1:])
        parts.append(packer.compress(filtered.data))
        above = lines[-1]
    return _join(height, width, [*parts, packer.flush()])


def _join(height: int, width: int, packed: Sequence[bytes]) -> bytes:
    """The PNG of 8-bit RGB lines; each part of the zlib stream becomes a chunk."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    chunks = [_chunk(b"IDAT", part) for part in packed]
    return b"".join([_SIGNATURE, header, *chunks, _chunk(b"IEND", b"")])


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
