"""The paper's figures 2 and 5: what different orders of instances make of one image."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from refine.errors import RefineError
from refine.options import FusionOptions, RelationsOptions, UnknownErasingOptions
from refine.prediction_cache.header import CacheHeader
from refine.report.cached_images import CachedImages
from refine.types import PanopticPrediction
from refine.viz.overlay import crop_panoptic
from refine.viz.panels import WHITE, add_caption, fit_size, join_panels, resize_image

NOT_AVAILABLE = "not available"

_MARGIN_FRAC = 0.2
_MIN_WINDOW_PX = 48
_GREY = 128


def list_panels(fusion: FusionOptions) -> dict[str, FusionOptions]:
    """The panels of figure 5 by caption, from left to right.

    Args:
        fusion: Everything but the order and the erasing.
    """
    plain = replace(fusion, unknown_erasing=UnknownErasingOptions())
    return {
        "heuristic": replace(plain, relations=RelationsOptions()),
        "SRM": replace(plain, relations=RelationsOptions(kind="srm", head="srm")),
        "OCFusion": replace(plain, relations=RelationsOptions(kind="occlusion", head="ocfusion")),
        "SOE + UE": replace(
            plain,
            relations=RelationsOptions(kind="soft_occlusion", head="strong"),
            unknown_erasing=replace(fusion.unknown_erasing, mode="score"),
        ),
    }


def drop_unavailable(
    panels: Mapping[str, FusionOptions], header: CacheHeader
) -> dict[str, FusionOptions | None]:
    """None in place of what a cache cannot be fused to, for want of a head."""
    return {name: None if header.obstacle(f) else f for name, f in panels.items()}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PanelChange:
    """One image under the first and the last panel that are to be had.

    Attributes:
        image_id: Id in the JSON.
        before: Score under the first, as :mod:`refine.report.images` has it.
        after: Score under the last.
    """

    image_id: int
    before: float
    after: float


def find_changed_images(
    images: CachedImages, panels: Mapping[str, FusionOptions | None], *, number: int
) -> list[PanelChange]:
    """The images that change most from the first to the last panel, to the better or the worse.

    Args:
        images: The cache and its dataset.
        panels: Of :func:`drop_unavailable`.
        number: Of images, at most; those without change are left out.

    Raises:
        RefineError: Fewer than two panels are to be had.
    """
    there = [fusion for fusion in panels.values() if fusion is not None]
    if len(there) < 2:
        missing = ", ".join(name for name, fusion in panels.items() if fusion is None)
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
        changes.append(PanelChange(image_id=image_id, before=before, after=after))
    changed = [c for c in changes if c.before != c.after]
    return sorted(changed, key=lambda c: (-abs(c.after - c.before), c.image_id))[:number]


def draw_figure(
    images: CachedImages,
    image_id: int,
    panels: Mapping[str, FusionOptions | None],
    *,
    is_close_up: bool,
) -> np.ndarray:
    """Image, ground truth and every panel side by side.

    Args:
        images: The cache and its dataset.
        image_id: Of the image.
        panels: Of :func:`drop_unavailable`.
        is_close_up: Only the region in which the panels differ.

    Returns:
        ``[H, W, 3]`` uint8; a panel that cannot be had is grey and says so.
    """
    image, truth = images.read_image(image_id), images.read_truth(image_id)
    evidence = images.open_evidence(image_id)
    fused = {
        name: None if fusion is None else images.fuse(evidence, fusion, truth)
        for name, fusion in panels.items()
    }
    there = [prediction for prediction in fused.values() if prediction is not None]
    window = _find_window(there) if is_close_up else (slice(None), slice(None))
    captions = dict(zip(panels, caption_panels(panels), strict=True))
    plain = resize_image(image[window], fit_size(*image[window].shape[:2]))
    parts = [add_caption(plain, {"image": WHITE})]
    for name, panoptic in {"ground truth": truth, **fused}.items():
        drawn = (
            np.full_like(plain, _GREY)
            if panoptic is None
            else images.draw(image[window], crop_panoptic(panoptic, window))
        )
        parts.append(add_caption(drawn, {captions.get(name, name): WHITE}))
    return join_panels(parts, axis=1)


def caption_panels(panels: Mapping[str, FusionOptions | None]) -> Iterator[str]:
    """Names of the panels, with a word on those that cannot be had."""
    for name, fusion in panels.items():
        yield name if fusion is not None else f"{name} ({NOT_AVAILABLE})"


def _find_window(predictions: list[PanopticPrediction]) -> tuple[slice, slice]:
    """Rows and columns around the pixels whose category or neighbours differ; all if none do."""
    first, last = (_outline(p) for p in (predictions[0], predictions[-1]))
    differs = first != last
    if not differs.any():
        return slice(None), slice(None)
    window = []
    for axis, side in enumerate(differs.shape):
        there = np.flatnonzero(differs.any(axis=1 - axis))
        start, stop = int(there[0]), int(there[-1]) + 1
        margin = max(_MARGIN_FRAC * (stop - start), (_MIN_WINDOW_PX - (stop - start)) / 2)
        window.append(slice(max(0, int(start - margin)), min(side, int(stop + margin) + 1)))
    return window[0], window[1]


def _outline(prediction: PanopticPrediction) -> np.ndarray:
    """``[H, W]`` category and score of each pixel's segment: ids differ between predictions."""
    table: dict[int, tuple[float, float]] = {
        s.id: (float(s.category), s.score) for s in prediction.segments
    }
    ids, index = np.unique(prediction.segment_map, return_inverse=True)
    values = np.array([1000 * c + s for c, s in (table.get(k, (-1.0, 0.0)) for k in ids.tolist())])
    outline: np.ndarray = values[index.reshape(prediction.segment_map.shape)]
    return outline
