"""Image files to RGB arrays."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from refine.coco_format.png import MAX_PIXELS, PILLOW_ERRORS, check_size, explain_pillow
from refine.errors import RefineError

_EIGHT_BIT_MODES = ("RGB", "L", "CMYK", "P", "RGBA", "LA", "YCbCr", "1")
_SIXTEEN_BIT_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_ORIENTATION = 0x0112  # of EXIF: 1 is upright; from 5 on, height and width are exchanged
_MAX_16_BIT = 65535
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_log = logging.getLogger(__name__)
_warned: set[Path] = set()


def decode_image(data: bytes, *, source: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """The ``[H, W, 3]`` uint8 RGB pixels of an image file of any 8- or 16-bit kind Pillow reads.

    16 bits are scaled to 8, what is transparent lies on white, and of an animation it is the first
    frame.

    Without a ``size``, the image is turned as its EXIF orientation says, as viewers show it. With
    the ``(height, width)`` that annotations have, it is turned only if it fits them no other way;
    where both fit, the pixels are taken as they are stored, which is COCO's rule, with a warning.

    Raises:
        RefineError: Truncated, no image, of another size, huge, or neither 8 nor 16 bits per
            channel (``source``: file name).
    """
    with _opened(data, source) as image:
        is_turned = _fit(image, size, source=source)
        return to_rgb(image, source=source, is_turned=is_turned)


def check_photo(data: bytes, *, source: str, size: tuple[int, int]) -> None:
    """Refuse an image file that does not fit annotations of ``size``, by a look at its header.

    Raises:
        RefineError: No image, of another size, or huge (``source``: file name).
    """
    with _opened(data, source) as image:
        _fit(image, size, source=source)


def measure_photo(data: bytes, *, source: str) -> tuple[int, int]:
    """``(height, width)`` of an image file as viewers show it; errors as in `check_photo`."""
    with _opened(data, source) as image:
        turned = find_orientation(image) >= 5
        size = (image.width, image.height) if turned else (image.height, image.width)
        check_size(size, None, source=source)
        return size


@contextmanager
def _opened(data: bytes, source: str) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(data)) as image:
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise RefineError(
            f"{source}: more than {MAX_PIXELS} pixels; make it smaller or cut it into several"
        ) from None
    except PILLOW_ERRORS as error:
        raise RefineError(
            f"{source}: damaged image ({explain_pillow(error)}); get the file again"
        ) from None


def to_rgb(image: Image.Image, *, source: str, is_turned: bool = True) -> np.ndarray:
    """The ``[H, W, 3]`` uint8 RGB pixels of a PIL image, turned as its EXIF orientation says.

    Without ``is_turned``, they are as they are stored. 16 bits are scaled to 8, and what is
    transparent lies on white.

    Raises:
        RefineError: Neither 8 nor 16 bits per channel; ``source`` is the name in the message.
    """
    turn = _TURNS.get(find_orientation(image)) if is_turned else None
    if image.mode in _SIXTEEN_BIT_MODES:
        image = _scale_to_eight_bits(image, source)
    elif image.mode not in _EIGHT_BIT_MODES:
        raise RefineError(f"{source}: pixels of type {image.mode}; convert it to 8 bits")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    upright = image if turn is None else image.transpose(turn)
    return np.array(upright if upright.mode == "RGB" else upright.convert("RGB"))


def _scale_to_eight_bits(image: Image.Image, source: str) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > _MAX_16_BIT:
        raise RefineError(f"{source}: values beyond 16 bits; convert it to 8 bits")
    return Image.fromarray(((values * 255 + _MAX_16_BIT // 2) // _MAX_16_BIT).astype(np.uint8))


def find_orientation(image: Image.Image) -> int:
    """The EXIF orientation of an image, 1 to 8; 1, upright, if it states none."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except (*PILLOW_ERRORS, KeyError, TypeError):  # the pixels may be fine all the same
        return 1
    return orientation if orientation in _TURNS else 1


def has_two_readings(data: bytes) -> bool:
    """Whether an image file fits annotations of its size both as it is stored and as it is seen."""
    with Image.open(io.BytesIO(data)) as image:
        return _is_ambiguous(image)


def _is_ambiguous(image: Image.Image) -> bool:
    orientation = find_orientation(image)
    return orientation != 1 and (orientation < 5 or image.width == image.height)


def _fit(image: Image.Image, size: tuple[int, int] | None, *, source: str) -> bool:
    """Whether an image has to be turned, by EXIF, to fit annotations of this size."""
    stored, orientation = (image.height, image.width), find_orientation(image)
    seen = stored[::-1] if orientation >= 5 else stored
    if size is None or seen == size != stored:
        check_size(seen, size, source=source)
        return True
    note = f" ({seen[1]} x {seen[0]} by its EXIF orientation)" if seen != stored else ""
    check_size(stored, size, source=f"{source}{note}")
    if _is_ambiguous(image):
        _warn_once(Path(source), orientation)
    return False


def _warn_once(path: Path, orientation: int) -> None:
    """Once for each folder: it is a matter of whole datasets."""
    if path.parent not in _warned:
        _warned.add(path.parent)
        _log.warning(
            "%s: EXIF orientation %d; whether the annotations are of the image as it is stored or "
            "as it is seen cannot be told from its size: read as stored, like COCO's. If that is "
            "wrong, save the images upright, without the tag",
            path,
            orientation,
        )
