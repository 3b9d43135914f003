"""The paper's figures 2 and 5: what different orders of instances make of one image."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from refine.config.instantiate import to_options
from refine.errors import RefineError
from refine.options import FusionOptions, RelationsOptions, UnknownErasingOptions
from refine.report.cached_images import CachedImages
from refine.types import PanopticPrediction
from refine.viz.image_files import write_png
from refine.viz.overlay import crop_panoptic
from refine.viz.panels import WHITE, add_caption, fit_size, join_panels, resize_image

Panels = Mapping[str, FusionOptions | None]
"""Settings by caption, from left to right; None where the cache lacks a head, and the caption says
so."""

_NOT_AVAILABLE = " (not available)"
_MARGIN_FRAC = 0.2
_MIN_WINDOW_PX = 48
_GREY = 128


def draw_figures(
    cache: Path,
    out: Path,
    number: int,
    data_root: Path | None = None,
    erase_below: float | None = None,
) -> Iterator[str]:
    """Draw figure 5, whole images, and figure 2, what changes, of the images that change most.

    At most ``number`` images of a prediction cache into the folder ``out``; those without change
    are left out. ``data_root`` is where the dataset lies now (None: where it was), ``erase_below``
    the threshold of Unknown Erasing (None: the cache's).

    Yields:
        Lines that say what was drawn.

    Raises:
        RefineError: A bad cache, or fewer than two panels are to be had.
    """
    images = CachedImages(cache, data_root=data_root)
    fusion = to_options(images.reader.header.checkpoint["config"]["fusion"], FusionOptions)
    if erase_below is not None:
        erasing = replace(fusion.unknown_erasing, score_thresh=erase_below)
        fusion = replace(fusion, unknown_erasing=erasing)
    panels = list_panels(images, fusion)
    changes = find_changed_images(images, panels)[:number]
    yield "panels: image, ground truth, " + ", ".join(panels)
    if not changes:
        yield "no image changes from the first to the last of them"
    for image_id, before, after in changes:
        for figure in (2, 5):
            path = out / f"figure{figure}_{image_id}.png"
            write_png(path, draw_figure(images, image_id, panels, is_close_up=figure == 2))
            yield f"{path}: {100 * before:.1f} -> {100 * after:.1f}"


def list_panels(images: CachedImages, fusion: FusionOptions) -> Panels:
    """The panels of figure 5; ``fusion`` decides everything but the order and the erasing."""
    plain = replace(fusion, unknown_erasing=UnknownErasingOptions())
    erased = replace(fusion, unknown_erasing=replace(fusion.unknown_erasing, mode="score"))
    soft = RelationsOptions(kind="soft_occlusion", head="strong")
    panels = {
        "heuristic": replace(plain, relations=RelationsOptions()),
        "SRM": replace(plain, relations=RelationsOptions(kind="srm", head="srm")),
        "OCFusion": replace(plain, relations=RelationsOptions(kind="occlusion", head="ocfusion")),
        "SOE + UE": replace(erased, relations=soft),
    }
    lacks = images.reader.header.obstacle
    return dict((k + _NOT_AVAILABLE, None) if lacks(v) else (k, v) for k, v in panels.items())


def find_changed_images(images: CachedImages, panels: Panels) -> list[tuple[int, float, float]]:
    """The images that change from the first to the last panel, for the better or the worse.

    Returns:
        Image id and its score (:mod:`refine.report.image_changes`) before and after, the largest
        change first.

    Raises:
        RefineError: Fewer than two panels are to be had.
    """
    there = [fusion for fusion in panels.values() if fusion is not None]
    if len(there) < 2:
        lacking = (name for name, fusion in panels.items() if fusion is None)
        missing = ", ".join(name.removesuffix(_NOT_AVAILABLE) for name in lacking)
        raise RefineError(
            f"{images.reader.folder}: nothing to compare, {missing} lack their heads; write "
            "a cache with occlusion_ckpts= and ranking_ckpts="
        )
    changes = []
    for image_id in images.image_ids:
        truth, evidence = images.read_truth(image_id), images.open_evidence(image_id)
        before, after = (
            images.score(images.fuse(evidence, f, truth), truth) for f in (there[0], there[-1])
        )
        changes += [(image_id, before, after)] if before != after else []
    return sorted(changes, key=lambda change: (-abs(change[2] - change[1]), change[0]))


def draw_figure(
    images: CachedImages, image_id: int, panels: Panels, *, is_close_up: bool
) -> np.ndarray:
    """Image, ground truth and every panel side by side.

    Returns:
        ``[H, W, 3]`` uint8, of a close-up only the region in which the panels differ; a panel that
        cannot be had is grey.
    """
    image, truth = images.read_image(image_id), images.read_truth(image_id)
    evidence = images.open_evidence(image_id)
    fused = {
        name: None if fusion is None else images.fuse(evidence, fusion, truth)
        for name, fusion in panels.items()
    }
    there = [prediction for prediction in fused.values() if prediction is not None]
    window = _find_window(there[0], there[-1]) if is_close_up else (slice(None), slice(None))
    image = image[window]
    plain = resize_image(image, fit_size(*image.shape[:2]))
    parts = [add_caption(plain, {"image": WHITE})]
    for caption, panoptic in {"ground truth": truth, **fused}.items():
        drawn = np.full_like(plain, _GREY)
        if panoptic is not None:
            drawn = images.draw(image, crop_panoptic(panoptic, window))
        parts.append(add_caption(drawn, {caption: WHITE}))
    return join_panels(parts, axis=1)


def _find_window(first: PanopticPrediction, last: PanopticPrediction) -> tuple[slice, slice]:
    """Rows and columns around the pixels whose category or neighbours differ; all if none do."""
    differs = _outline(first) != _outline(last)
    if not differs.any():
        return slice(None), slice(None)
    window = []
    for axis, side in enumerate(differs.shape):
        start, stop = np.flatnonzero(differs.any(axis=1 - axis))[[0, -1]].tolist()
        length = stop + 1 - start
        margin = max(_MARGIN_FRAC * length, (_MIN_WINDOW_PX - length) / 2)
        window.append(slice(max(0, int(start - margin)), min(side, int(stop + 1 + margin) + 1)))
    return window[0], window[1]


def _outline(prediction: PanopticPrediction) -> np.ndarray:
    """``[H, W]`` category and score of each pixel's segment: ids differ between predictions."""
    table = np.full(int(prediction.segment_map.max()) + 1, -1000.0)
    for segment in prediction.segments:
        table[segment.id] = 1000 * segment.category + segment.score
    outline: np.ndarray = table[prediction.segment_map]
    return outline
