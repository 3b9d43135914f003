"""Image files to RGB arrays."""

import io
import struct

import numpy as np
from PIL import Image

from refine.errors import RefineError

_EIGHT_BIT_MODES = ("RGB", "L", "CMYK", "P", "RGBA", "LA", "YCbCr", "1")


def decode_image(data: bytes, *, source: str) -> np.ndarray:
    """The ``[H, W, 3]`` uint8 RGB pixels of an image file of any 8-bit kind that Pillow reads.

    EXIF orientation is not applied: COCO's annotations are in the pixels as they are stored.

    Raises:
        RefineError: Truncated, no image, or not 8 bits per channel (``source``: file name).
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return to_rgb(image, source=source)
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0]
        raise RefineError(f"{source}: damaged image ({reason}); get the file again") from None


def to_rgb(image: Image.Image, *, source: str) -> np.ndarray:
    """The ``[H, W, 3]`` uint8 RGB pixels of a PIL image as it is stored.

    Raises:
        RefineError: Not 8 bits per channel; ``source`` is the name shown in the message.
    """
    if image.mode not in _EIGHT_BIT_MODES:
        raise RefineError(f"{source}: pixels of type {image.mode}; convert it to 8 bits")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))
