"""What the library returns for one image: its panoptic map with named segments."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from refine.categories import CategoryTable
from refine.coco_format.writer import PanopticWriter
from refine.options import OverlayOptions
from refine.types import PanopticPrediction, Segment
from refine.viz.image_files import write_png
from refine.viz.overlay import draw_panoptic


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSegment(Segment):
    """One segment, with the ``id`` and the name of its category in the dataset's JSON."""

    category_id: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class PanopticResult(PanopticPrediction):
    """The panoptic segmentation of one image.

    Attributes:
        segment_map: ``[H, W]`` int32: 0 is void, else the ``id`` of a segment.
        segments: Things by descending score, then stuff; none is empty. Each has ``id``, ``name``,
            ``category_id``, ``is_thing``, ``score`` in [0, 1] (1 for stuff), ``area`` in pixels
            and ``category``, its position in ``categories``.
        categories: All categories of the dataset, things first.
        image: ``[H, W, 3]`` uint8 RGB, or None if it was not given.
        file_name: Name of the image file, or a made-up one.
    """

    segments: tuple[NamedSegment, ...]
    categories: CategoryTable
    image: np.ndarray | None = None
    file_name: str = "image.png"

    @classmethod
    def of(
        cls,
        prediction: PanopticPrediction,
        categories: CategoryTable,
        *,
        image: np.ndarray | None = None,
        file_name: str = "image.png",
    ) -> "PanopticResult":
        """A prediction with the names of its categories."""
        segments = tuple(
            NamedSegment(**asdict(s), category_id=c.dataset_id, name=c.name)
            for s, c in ((s, categories[s.category]) for s in prediction.segments)
        )
        return cls(
            segment_map=prediction.segment_map,
            segments=segments,
            categories=categories,
            image=image,
            file_name=file_name,
        )

    def __repr__(self) -> str:
        height, width = self.segment_map.shape
        names = ", ".join(s.name for s in self.segments) or "no segments"
        return f"<PanopticResult of {self.file_name}, {height} x {width}: {names}>"

    def draw(self, *, labels: bool = True, **style: Any) -> Image.Image:
        """The image (grey if it was not given), its segments tinted, outlined and, if asked, named.

        Labels show the category names, and the scores of things. ``style`` are other settings of
        :class:`~refine.options.OverlayOptions`: ``opacity``, ``outlines``, ``longest_side_px``.
        """
        return Image.fromarray(self._draw(OverlayOptions(labels=labels, **style)))

    def _draw(self, style: OverlayOptions) -> np.ndarray:
        image = self.image
        if image is None:
            image = np.full((*self.segment_map.shape, 3), 128, np.uint8)
        return draw_panoptic(image, self, self.categories, style=style)

    def save(self, folder: str | Path, *, name: str | None = None, labels: bool = True) -> None:
        """Write ``overlays/NAME.png``, ``panoptic/NAME.png`` and ``panoptic.json``.

        These are the files of ``python -m refine.predict``. A ``panoptic.json`` that is already
        there keeps its entries of other images, so several results can share a folder.

        Args:
            folder: Folder of the results; created if it is missing.
            name: Name of the PNGs without its ending; by default that of the image file.
            labels: Write names and scores into the overlay.

        Raises:
            RefineError: The folder holds results of other categories.
        """
        file_name = self.file_name if name is None else f"{name}.png"
        with PanopticWriter(Path(folder), self.categories) as writer:
            image_id = writer.keep_others(file_name)
            png_name = f"{Path(file_name).stem}.png"
            writer.add(image_id, file_name, self, png_name=png_name)
            self.write_overlay(Path(folder) / "overlays" / png_name, OverlayOptions(labels=labels))

    def write_overlay(self, path: Path, style: OverlayOptions) -> None:
        """Write the picture that :meth:`draw` makes; missing folders are made."""
        write_png(path, self._draw(style))
