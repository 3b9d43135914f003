"""Small pictures to embed in a page."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from refine.errors import RefineError

_QUALITY = 82


def read_picture(path: Path) -> np.ndarray:
    """``[H, W, 3]`` uint8 RGB of an image file.

    Raises:
        RefineError: It is missing or damaged.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError) as error:
        raise RefineError(f"{path}: cannot be read as an image ({error}); draw it anew") from None


def encode_jpeg(picture: np.ndarray, *, max_width_px: int) -> bytes:
    """A picture as JPEG, shrunk to a width; small ones stay as they are.

    Args:
        picture: ``[H, W, 3]`` uint8 RGB.
        max_width_px: At least 1.
    """
    image = Image.fromarray(picture)
    if image.width > max_width_px:
        height = max(1, round(image.height * max_width_px / image.width))
        image = image.resize((max_width_px, height), Image.Resampling.LANCZOS)
    target = io.BytesIO()
    image.save(target, format="JPEG", quality=_QUALITY, optimize=True)
    return target.getvalue()
