"""Draws the pictures of docs/fusion.md: one hand-made scene, fused with one setting after another.

python scripts/draw_fusion_knobs.py docs/images
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from refine import fuse_predictions
from refine.categories import CategoryTable
from refine.toy.objects import ID_OF, TOY_CATEGORIES
from refine.toy.render import HUES, paint_texture, paint_thing
from refine.toy.shapes import blob_outline, mask_of, thing_outline
from refine.viz.panels import WHITE, add_caption, join_panels

SIZE = (200, 300)
TABLE = CategoryTable(TOY_CATEGORIES)

# name, side, (x, y), score; later ones are painted over earlier ones
THINGS: list[tuple[str, float, tuple[float, float], float]] = [
    ("tent", 96.0, (86.0, 118.0), 0.95),
    ("ball", 34.0, (84.0, 128.0), 0.80),
    ("crate", 60.0, (196.0, 92.0), 0.90),
    ("star", 63.0, (219.0, 114.0), 0.70),
]
GHOSTS = [("moon", 30.0, (150.0, 40.0), 0.40), ("pill", 52.0, (192.0, 71.0), 0.55)]
"""Detections of nothing: one in the sky, one on the crate."""
ON_TOP = {("ball", "tent"): 0.9, ("star", "crate"): 0.6}
"""O(i, j) of the pairs about which an occlusion head would be asked; the rest is 0.5."""

ROWS: dict[str, tuple[str, tuple[object, ...], dict[str, Any]]] = {
    "score": ("merge.score_thresh", (0.3, 0.5, 0.75), {"relation": "area", "ghosts": 1}),
    "overlap": ("merge.overlap_thresh", (0.2, 0.5, 0.8), {"relation": "score", "ghosts": 2}),
    "mask": ("merge.mask_thresh", (0.2, 0.5, 0.8), {"relation": "area"}),
    "relations": ("relation", ("score", "area", "shr", "occlusion"), {}),
    "sigma": ("relations.sigma", (0.3, 2.5, 20.0), {"relation": "soft_occlusion"}),
    "erasing": ("unknown_erasing.score_thresh", (0.0, 0.5, 0.7), {"unknown_erasing.mode": "score"}),
    "stuff": ("stuff_area_limit_px", (1, 600, 2500), {}),
}
"""Of every picture the setting, its values, and what stays the same."""

Predictions = tuple[np.ndarray, dict[str, Any], np.ndarray, np.ndarray]


def make_scene() -> Predictions:
    """The picture, instances, ``[C, H, W]`` probabilities, ``[N, N]`` occlusions."""
    rng = np.random.default_rng(5)
    y = np.arange(SIZE[0])[:, None] + np.zeros(SIZE)
    ground = y > 62 + 6 * np.sin(np.arange(SIZE[1]) / 30)
    patches = {
        "beach": (blob_outline(side_px=78, centre=(150, 178), rng=rng), 0.62),
        "water": (blob_outline(side_px=46, centre=(262, 178), rng=rng), 0.42),
        "desert": (blob_outline(side_px=20, centre=(24, 82), rng=rng), 0.9),
    }
    places = {"sky": (~ground, 0.9), "meadow": (ground, 0.85)}
    places |= {name: (mask_of([o], SIZE), share) for name, (o, share) in patches.items()}
    canvas = np.zeros((*SIZE, 3), np.float32)
    semantic = np.full((len(TABLE), *SIZE), 0.0, np.float32)
    for name, (mask, share) in places.items():
        seen = "meadow" if name == "water" else name  # nothing but a doubtful belief
        canvas[mask] = paint_texture(seen, SIZE, unit=1.5, rng=rng)[mask]
        semantic[:, mask] = (1 - share) / (len(TABLE) - 1)
        semantic[ID_OF[name], mask] = share
    masks, scores, names = [], [], []
    for name, side, centre, score in [*THINGS, *GHOSTS]:
        outline = thing_outline(name, side_px=side, centre=centre, rng=rng)
        if (name, side, centre, score) in THINGS:
            paint_thing(canvas, outline, hue=HUES[name], unit=1.5, rng=rng)
        masks.append(gaussian_filter(mask_of([outline], SIZE).astype(np.float32), 5))
        scores.append(score)
        names.append(name)
    labels = [ID_OF[name] for name in names]
    occlusions = np.full((len(names),) * 2, 0.5)
    for (upper, lower), share in ON_TOP.items():
        i, j = names.index(upper), names.index(lower)
        occlusions[i, j], occlusions[j, i] = share, 1 - share
    instances = {"masks": np.stack(masks), "scores": scores, "labels": labels}
    return canvas.clip(0, 255).astype(np.uint8), instances, semantic, occlusions


def draw(scene: Predictions, key: str, value: object, fixed: Mapping[str, Any]) -> np.ndarray:
    """One panel: the scene fused with ``key=value`` and the fixed settings."""
    image, instances, semantic, occlusions = scene
    settings: dict[str, Any] = {"relation": "occlusion", "ghosts": 0, "stuff_area_limit_px": 300}
    settings |= {**fixed, key: value}
    kept = len(THINGS) + settings.pop("ghosts")
    result = fuse_predictions(
        {name: values[:kept] for name, values in instances.items()},
        semantic,
        categories=TABLE,
        relation=settings.pop("relation"),
        occlusions=occlusions[:kept, :kept],
        stuff_area_limit_px=settings.pop("stuff_area_limit_px"),
        fusion=settings,
        image=image,
    )
    return add_caption(np.asarray(result.draw()), {f"{key}={value}": WHITE})


def main(folder: Path) -> None:
    """Draw all pictures into a folder."""
    scene = make_scene()
    picture = add_caption(scene[0], {"the picture": WHITE})
    for name, (key, values, fixed) in ROWS.items():
        panels = [draw(scene, key, value, fixed) for value in values]
        row = Image.fromarray(join_panels([picture, *panels][-4:], axis=1))
        small = row.quantize(160, dither=Image.Dither.NONE)
        small.save(folder / f"fusion_{name}.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
