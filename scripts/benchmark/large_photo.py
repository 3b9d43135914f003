"""Stage ``large_photo``: all but the network for a photograph of 24 megapixels, file to files.

It is decoded and resized; a made-up output of the network (50 instances of which about 30 are
left, 133 categories) is fused at original size and written as panoptic PNG, JSON and overlay with
labels. The plain form does the same, but draws in floating point on whole maps and packs PNGs as
Pillow does by itself.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmark.case import Case, extra_mib
from benchmark.scenes import NUM_CATEGORIES, NUM_THINGS, make_detections, make_semantic_logits
from refine.api.panoptic_result import PanopticResult
from refine.api.predictor import read_pixels
from refine.categories import CategoryTable
from refine.coco_format.writer import PanopticWriter
from refine.data.transforms import eval_geometry, transform_image
from refine.fusion.evidence import Evidence
from refine.fusion.fuse_evidence import fuse
from refine.options import FusionOptions, ImageOptions, OverlayOptions
from refine.types import RawPrediction
from refine.viz.image_files import encode_jpeg, read_image
from refine.viz.labels import draw_labels, segment_labels
from refine.viz.palette import segment_colors

SIZE, NETWORK_SIZE = (4000, 6000), (800, 1200)
GOAL = 2.0
MAX_EXTRA_MIB, MAX_CPU_S = 1200, 5.0
COUNT = 50


def build() -> list[Case]:
    """One photograph, with its memory and its CPU seconds."""
    torch.set_num_threads(1)
    ours = prepare()
    ours()
    start = time.process_time()
    ours()
    seconds, extra = time.process_time() - start, extra_mib(prepare)
    print(f"large_photo: {seconds:.1f} CPU seconds, {extra:.0f} MiB extra")

    peer = prepare(plain=True)

    def check() -> None:
        assert not extra > MAX_EXTRA_MIB, f"{extra:.0f} MiB extra, allowed are {MAX_EXTRA_MIB}"
        assert seconds <= MAX_CPU_S, f"{seconds:.1f} CPU seconds, allowed are {MAX_CPU_S}"
        for kind in ("panoptic", "overlays"):
            one, other = (program() / kind / "photo.png" for program in (ours, peer))
            assert np.array_equal(read_image(one), read_image(other)), f"other pixels in {kind}"

    return [Case(name="24 megapixels", ours=ours, peer=peer, check=check, goal=GOAL, rounds=7)]


def prepare(*, plain: bool = False) -> Callable[[], Path]:
    """A program that predicts the photograph; the folder of its results."""
    folder = tempfile.TemporaryDirectory()
    (Path(folder.name) / "photo.jpg").write_bytes(encode_jpeg(_draw_photo(), max_width_px=SIZE[1]))
    write = _write_plainly if plain else _write
    return partial(_predict, folder, _make_prediction(), write)


def _draw_photo() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).resize(SIZE[::-1])
    noise = rng.integers(-6, 7, (*SIZE, 1), np.int16)
    photo: np.ndarray = np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8)
    return photo


def _make_prediction() -> RawPrediction:
    detections = make_detections(NETWORK_SIZE, count=COUNT)
    labels = np.random.default_rng(1).integers(0, NUM_THINGS, COUNT)
    return RawPrediction(
        boxes=torch.from_numpy(detections.boxes),
        scores=torch.linspace(0.99, 0.51, COUNT),
        labels=torch.from_numpy(labels),
        mask_logits=torch.from_numpy(detections.probabilities).logit(1e-4),
        semantic_logits=make_semantic_logits(NETWORK_SIZE),
        image_size=NETWORK_SIZE,
        original_size=SIZE,
    )


def _make_categories() -> CategoryTable:
    colors = np.random.default_rng(2).integers(0, 256, (NUM_CATEGORIES, 3)).tolist()
    return CategoryTable.of(
        [
            {"id": k + 1, "name": f"category {k}", "isthing": int(k < NUM_THINGS), "color": color}
            for k, color in enumerate(colors)
        ]
    )


def _predict(
    folder: "tempfile.TemporaryDirectory[str]", raw: RawPrediction, write: Callable[..., None]
) -> Path:
    out = Path(folder.name)
    pixels = read_pixels(out / "photo.jpg", "")
    transform_image(pixels, eval_geometry(SIZE, ImageOptions()))
    evidence = Evidence(raw, num_things=NUM_THINGS)
    fused = fuse(evidence, FusionOptions(), stuff_area_limit_px=4096)
    result = PanopticResult.of(fused, _make_categories(), image=pixels)
    with PanopticWriter(out, result.categories) as writer:
        write(result, writer)
    return out


def _write(result: PanopticResult, writer: PanopticWriter) -> None:
    writer.add(1, "photo.jpg", result, png_name="photo.png")
    result.write_overlay(writer.out_dir / "overlays" / "photo.png", OverlayOptions())


def _write_plainly(result: PanopticResult, writer: PanopticWriter) -> None:
    ids = result.segment_map
    channels = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=2).astype(np.uint8)
    assert result.image is not None
    colors = segment_colors(result, result.categories)
    found, index = np.unique(ids, return_inverse=True)
    tints = np.array([colors[k] for k in found.tolist()])[index.reshape(ids.shape)]
    drawn = (result.image * (1 - 0.55) + tints * 0.55).astype(np.uint8)
    is_contour = np.zeros(SIZE, bool)
    is_contour[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    is_contour[:-1] |= ids[:-1] != ids[1:]
    drawn[is_contour] = (drawn[is_contour] * (1 - 0.7) + 255 * 0.7).astype(np.uint8)
    drawn = draw_labels(drawn, segment_labels(result, result.categories))
    for kind, pixels in (("panoptic", channels), ("overlays", drawn)):
        (writer.out_dir / kind).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(writer.out_dir / kind / "photo.png")
