"""Pictures to and from files."""

import os
from pathlib import Path

import numpy as np
from PIL import Image


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write a picture whole or not at all.

    Args:
        path: Its folder is made if it is missing.
        picture: ``[H, W, 3]`` uint8 RGB.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    Image.fromarray(picture).save(temporary, format="PNG")
    temporary.replace(path)


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a ``[H, W, 3]`` uint8 picture to ``(height, width)``; bilinear."""
    if image.shape[:2] == size:
        return image
    resized = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(resized)
