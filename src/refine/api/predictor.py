"""A trained model as a Python object: ``refine.load(checkpoint).predict(image)``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from refine.api.panoptic_result import PanopticResult
from refine.categories import CategoryTable
from refine.coco_format.category_choice import CategoryChoice
from refine.config.instantiate import to_options
from refine.data.collate import collate
from refine.data.images import decode_image, to_rgb
from refine.data.transforms import eval_geometry, make_views, transform_image
from refine.errors import RefineError, first_line
from refine.options import FusionOptions, ImageOptions, processor
from refine.pipeline import Pipeline
from refine.runs.checkpoint import read_checkpoint
from refine.runs.restore import restore_pipeline
from refine.types import Sample

AnyImage = str | Path | Image.Image | np.ndarray | Tensor
"""A file, a PIL image, a ``[H, W, 3]`` uint8 array or a ``[3, H, W]`` uint8 tensor, in RGB."""


def load(
    checkpoint: str | Path,
    *,
    device: str | torch.device = "auto",
    fusion: Mapping[str, Any] | None = None,
    fast: bool = False,
) -> "Predictor":
    """Load a checkpoint of ``refine.train``.

    Args:
        checkpoint: The file, for example ``RUN/checkpoints/best.ckpt``.
        device: ``auto`` is the GPU if there is one, else the CPU.
        fusion: Settings of the fusion that differ from the checkpoint's, by their names on the
            command line: ``{"relations.sigma": 2.0, "merge.score_thresh": 0.6}``.
        fast: Compute in bfloat16, which changes results slightly, if the device has units for it.

    Raises:
        RefineError: No readable checkpoint, an unknown setting or device.

    Example:
        >>> import refine
        >>> model = refine.load(checkpoint)
        >>> result = model.predict(photo)
        >>> result.segment_map.shape == result.image.shape[:2]
        True
        >>> len(result.segments) == int(result.segment_map.max())
        True
        >>> result.save(folder)
    """
    found = read_checkpoint(Path(checkpoint))
    sections = found.sections
    sections.fusion = to_options(found.config["fusion"], FusionOptions, changes=fusion)
    chosen = choose_device(device)
    pipeline = restore_pipeline(found, sections).to(chosen)
    pipeline.computes_in_half = fast and has_half_units(chosen)
    return Predictor(pipeline, categories=found.categories, image=sections.data.image)


class Predictor:
    """A model that segments images: network and fusion, in eval mode.

    ``image`` says at which size the network sees images; ``choice`` which of its categories
    results have.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        categories: CategoryTable,
        image: ImageOptions,
        choice: CategoryChoice | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.categories = categories if choice is None else choice.table
        self.image = image
        self._choice = choice

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
        """Segment an image, or each of a list, at original size, turned as EXIF says.

        Args:
            images: A file, a PIL image, a ``[H, W, 3]`` uint8 array or a ``[3, H, W]`` uint8
                tensor, in RGB; or a list or tuple of these.
            batch_size: Number of images that the network sees at a time. Those of a batch are
                padded to one size, which changes results slightly.

        Raises:
            RefineError: A file that is missing, damaged or no image, or another kind of input.
        """
        if not isinstance(images, list | tuple):
            return self.segment([read_input(images, "image.png", self.image)])[0]
        names = [f"image_{k}.png" for k in range(1, len(images) + 1)]
        results = []
        for k in range(0, len(images), batch_size):
            part = zip(images[k : k + batch_size], names[k:], strict=False)
            results += self.segment([read_input(image, name, self.image) for image, name in part])
        return results

    def segment(self, inputs: Sequence["Input"]) -> list[PanopticResult]:
        """The results of images that the network sees together."""
        batch = collate([i.sample for i in inputs]).to(next(self.pipeline.parameters()).device)
        return [
            PanopticResult.of(
                panoptic if self._choice is None else self._choice.apply(panoptic),
                self.categories,
                image=given.pixels,
                file_name=given.sample.file_name,
            )
            for given, (_, panoptic) in zip(inputs, self.pipeline.predict(batch), strict=True)
        ]


class Input(NamedTuple):
    """An image, ``[H, W, 3]`` uint8 RGB, and as the network sees it."""

    pixels: np.ndarray
    sample: Sample


def read_input(image: Any, name: str, options: ImageOptions) -> Input:
    """Read and resize an image in any of the forms of :data:`AnyImage`.

    Raises:
        RefineError: See :func:`read_pixels`.
    """
    pixels = read_pixels(image, name)
    size = (pixels.shape[0], pixels.shape[1])
    seen = transform_image(pixels, eval_geometry(size, options))
    file_name = Path(image).name if isinstance(image, str | Path) else name
    return Input(
        pixels,
        Sample(
            image=seen,
            image_id=0,
            file_name=file_name,
            original_size=size,
            views=make_views(pixels, options),
        ),
    )


def read_pixels(image: Any, name: str) -> np.ndarray:
    """The ``[H, W, 3]`` uint8 RGB pixels of an image in any of the forms of :data:`AnyImage`.

    Raises:
        RefineError: A file that is missing, damaged or no image, or another kind of input, which
            the message calls ``name``.
    """
    if isinstance(image, str | Path):
        try:
            return decode_image(Path(image).read_bytes(), source=str(image))
        except OSError as error:
            raise RefineError(f"{image}: {error.strerror}; give the path of an image") from None
    if isinstance(image, Image.Image):
        return to_rgb(image, source=name)
    pixels = image.detach().cpu().numpy() if isinstance(image, Tensor) else image
    if isinstance(image, Tensor) and image.ndim == 3:
        pixels = pixels.transpose(1, 2, 0)
    if getattr(pixels, "dtype", None) != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        found = f"{pixels.dtype} of shape {pixels.shape}" if hasattr(pixels, "shape") else image
        raise RefineError(
            f"{name}: {found}; give the path of a file, a PIL image, or uint8 RGB as an array "
            "[H, W, 3] or a tensor [3, H, W]"
        )
    return np.ascontiguousarray(pixels)


def choose_device(name: str | torch.device) -> torch.device:
    """The device of a name, else a ``RefineError``; ``auto`` is the GPU if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise RefineError(
            f"device={name}: {first_line(error)}; use device=auto or device=cpu"
        ) from None


def has_half_units(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16, several times faster than in float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and processor.has_half_units()
