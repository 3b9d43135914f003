"""A trained model as a Python object: ``refine.load(checkpoint).predict(image)``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from refine.api.panoptic_result import PanopticResult
from refine.api.settings import nest
from refine.categories import CategoryTable
from refine.config.instantiate import to_options
from refine.data.collate import collate
from refine.data.images import decode_image, to_rgb
from refine.data.transforms import eval_geometry, transform_image
from refine.errors import RefineError
from refine.options import FusionOptions, ImageOptions
from refine.pipeline import Pipeline
from refine.runs.checkpoint import read_checkpoint
from refine.runs.restore import restore_pipeline
from refine.types import Sample

AnyImage = str | Path | Image.Image | np.ndarray | Tensor
"""A file, a PIL image, a ``[H, W, 3]`` uint8 array or a ``[3, H, W]`` uint8 tensor (RGB)."""


def load(
    checkpoint: str | Path,
    *,
    device: str | torch.device = "auto",
    fusion: Mapping[str, Any] | None = None,
) -> "Predictor":
    """Load a checkpoint of ``refine.train``.

    Args:
        checkpoint: The file, for example ``RUN/checkpoints/best.ckpt``.
        device: ``auto`` is the GPU if there is one, else the CPU.
        fusion: Settings of the fusion that differ from the checkpoint's, by their names on the
            command line: ``{"relations.sigma": 2.0, "merge.score_thresh": 0.6}``.

    Returns:
        The model, ready to predict.

    Raises:
        RefineError: No readable checkpoint, an unknown setting or device.

    Example:
        >>> import refine
        >>> model = refine.load(checkpoint)
        >>> result = model.predict(photo)
        >>> result.segment_map.shape == (result.image.shape[0], result.image.shape[1])
        True
        >>> sorted({segment.id for segment in result.segments}) == sorted(
        ...     set(result.segment_map.ravel().tolist()) - {0}
        ... )
        True
        >>> result.save(folder)
    """
    found = read_checkpoint(Path(checkpoint))
    sections = found.sections
    sections.fusion = to_options(nest(fusion or {}, found.config["fusion"]), FusionOptions)
    pipeline = restore_pipeline(found, sections).to(choose_device(device))
    return Predictor(pipeline, categories=found.categories, image=sections.data.image)


class Predictor:
    """A model that segments images.

    Args:
        pipeline: Network and fusion, in eval mode.
        categories: What the network predicts.
        image: Size at which the network sees images.

    Attributes:
        pipeline: As given.
        categories: As given.
    """

    def __init__(
        self, pipeline: Pipeline, *, categories: CategoryTable, image: ImageOptions
    ) -> None:
        self.pipeline = pipeline
        self.categories = categories
        self._image = image

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return next(self.pipeline.parameters()).device

    @overload
    def predict(  # type: ignore[overload-overlap] # a path is a sequence of strings, too
        self, images: AnyImage, *, batch_size: int = 1
    ) -> PanopticResult: ...
    @overload
    def predict(
        self, images: Sequence[AnyImage], *, batch_size: int = 1
    ) -> list[PanopticResult]: ...
    def predict(
        self, images: AnyImage | Sequence[AnyImage], *, batch_size: int = 1
    ) -> PanopticResult | list[PanopticResult]:
        """Segment an image, or each image of a list.

        Images are taken as their pixels are stored: an EXIF orientation is not applied, as COCO's
        annotations do not apply it.

        Args:
            images: A file, a PIL image, a ``[H, W, 3]`` uint8 array or a ``[3, H, W]`` uint8
                tensor, in RGB; or a list or tuple of these.
            batch_size: Number of images that the network sees at a time. Those of a batch are
                padded to one size, which changes results slightly; 1 gives those of
                ``refine.predict``.

        Returns:
            One result, at the size of the image; for a list, a list.

        Raises:
            RefineError: A file that is missing, damaged or no image, or another kind of input.
        """
        if not isinstance(images, list | tuple):
            return self._predict([("image.png", images)])[0]
        named = [(f"image_{k}.png", image) for k, image in enumerate(images, start=1)]
        starts = range(0, len(named), batch_size)
        return [result for k in starts for result in self._predict(named[k : k + batch_size])]

    def _predict(self, images: Sequence[tuple[str, Any]]) -> list[PanopticResult]:
        names = [
            Path(image).name if isinstance(image, str | Path) else name for name, image in images
        ]
        pixels = [read_pixels(image, source=name) for name, image in images]
        samples = [self._sample(p, name) for p, name in zip(pixels, names, strict=True)]
        outputs = self.pipeline.predict(collate(samples).to(self.device))
        return [
            PanopticResult.of(panoptic, self.categories, image=image, file_name=name)
            for (_, panoptic), image, name in zip(outputs, pixels, names, strict=True)
        ]

    def _sample(self, pixels: np.ndarray, name: str) -> Sample:
        size = (pixels.shape[0], pixels.shape[1])
        image = transform_image(pixels, eval_geometry(size, self._image))
        return Sample(image=image, image_id=0, file_name=name, original_size=size)


def read_pixels(image: Any, *, source: str) -> np.ndarray:
    """The pixels of an image in any of the forms of :data:`AnyImage`.

    Args:
        image: The image.
        source: Name shown in error messages if the image is not a file.

    Returns:
        ``[H, W, 3]`` uint8 RGB.

    Raises:
        RefineError: A file that is missing, damaged or no image, or another kind of input.
    """
    if isinstance(image, str | Path):
        try:
            return decode_image(Path(image).read_bytes(), source=str(image))
        except OSError as error:
            raise RefineError(f"{image}: {error.strerror}; give the path of an image") from None
    if isinstance(image, Image.Image):
        return to_rgb(image, source=source)
    if isinstance(image, Tensor):
        image = image.detach().cpu().movedim(0, -1).numpy() if image.ndim == 3 else image.numpy()
    if not isinstance(image, np.ndarray):
        raise RefineError(
            f"{source}: {type(image).__name__}; give a path, a PIL image, an array or a tensor"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise RefineError(
            f"{source}: {image.dtype} of shape {image.shape}; give uint8 RGB, an array "
            "[H, W, 3] or a tensor [3, H, W]"
        )
    return np.ascontiguousarray(image)


def choose_device(name: str | torch.device) -> torch.device:
    """The device of a name; ``auto`` is the GPU if there is one, else the CPU.

    Raises:
        RefineError: There is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise RefineError(f"device={name}: {reason}; use device=auto or device=cpu") from None
