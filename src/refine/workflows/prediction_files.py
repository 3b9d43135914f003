"""The files of a prediction: those of each image, which any process can write, and those of all."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine.api.panoptic_result import PanopticResult
from refine.atomic import write_text
from refine.categories import CategoryTable
from refine.coco_format.writer import PanopticWriter, write_panoptic
from refine.ops.outlines import encode_segments
from refine.options import OverlayOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionFiles:
    """What is written.

    Attributes:
        out: The folder of all files.
        overlay: Style of the overlays; None: there are none.
        rle: Whether masks are also written as COCO's run lengths.
    """

    out: Path
    overlay: OverlayOptions | None
    rle: bool

    def write(self, result: PanopticResult, png_name: str) -> dict[str, Any]:
        """Write the PNGs of an image; what the files of all images say of it."""
        infos = write_panoptic(self.out / "panoptic" / png_name, result, result.categories)
        if self.overlay is not None:
            result.write_overlay(self.out / "overlays" / png_name, self.overlay)
        entry = {"png": png_name, "size": result.segment_map.shape, "segments_info": infos}
        if self.rle:
            masks = encode_segments(result.segment_map, [s.id for s in result.segments])
            entry["counts"] = [mask.counts.decode() for mask in masks]
        return entry

    def are_whole(self, png_name: str) -> bool:
        """Whether the PNGs of an image are there: they are written whole or not at all."""
        kinds = ["panoptic", *(["overlays"] if self.overlay is not None else [])]
        return all((self.out / kind / png_name).is_file() for kind in kinds)

    def write_summary(
        self,
        entries: Mapping[str, Mapping[str, Any]],
        image_ids: Mapping[str, int],
        categories: CategoryTable,
    ) -> None:
        """Write ``panoptic.json`` and, with ``rle``, ``instances.json`` and ``stuff.json``.

        Both mappings are by the names of the images.
        """
        with PanopticWriter(self.out, categories) as writer:
            for name, entry in entries.items():
                height, width = entry["size"]
                writer.record(
                    image_ids[name],
                    name,
                    entry["segments_info"],
                    png_name=entry["png"],
                    size=(height, width),
                )
        if self.rle:
            masks = [m for name, e in entries.items() for m in _list_masks(e, image_ids[name])]
            for kind, is_thing in (("instances", 1), ("stuff", 0)):
                chosen = [mask for thing, mask in masks if thing == is_thing]
                write_text(self.out / f"{kind}.json", json.dumps(chosen))


def _list_masks(entry: Mapping[str, Any], image_id: int) -> list[tuple[int, dict[str, Any]]]:
    """COCO's results of an image, and whether each is a thing."""
    return [
        (
            info["isthing"],
            {
                "image_id": image_id,
                "category_id": info["category_id"],
                "segmentation": {"size": entry["size"], "counts": counts},
                "bbox": info["bbox"],
                "score": info["score"],
            },
        )
        for info, counts in zip(entry["segments_info"], entry["counts"], strict=True)
    ]
