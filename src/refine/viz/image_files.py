"""Images to and from files and bytes; arrays are ``[H, W, 3]`` uint8 RGB."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from refine.atomic import write_atomically
from refine.coco_format.png import encode_png
from refine.errors import RefineError

_JPEG_QUALITY = 82


def write_png(path: Path, image: np.ndarray) -> None:
    """Write an image whole or not at all; missing folders are made."""
    with write_atomically(path) as part:
        part.write_bytes(encode_png(image))


def read_image(path: Path) -> np.ndarray:
    """Read an image file; a ``RefineError`` if it is missing or damaged."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError) as error:
        raise RefineError(f"{path}: cannot be read as an image ({error}); draw it again") from None


def encode_jpeg(image: np.ndarray, *, max_width_px: int) -> bytes:
    """Encode an image as JPEG, shrunk to ``max_width_px`` (at least 1) if it is wider."""
    shrunk = Image.fromarray(image)
    if shrunk.width > max_width_px:
        height = max(1, round(shrunk.height * max_width_px / shrunk.width))
        shrunk = shrunk.resize((max_width_px, height), Image.Resampling.LANCZOS)
    target = io.BytesIO()
    shrunk.save(target, format="JPEG", quality=_JPEG_QUALITY, optimize=True)
    return target.getvalue()
