"""What toy scenes are made of: categories, the rules of their order, things and whole scenes."""

from dataclasses import dataclass, field

import numpy as np

from refine.categories import Category
from refine.toy.shapes import mask_of

TOY_CATEGORIES = (
    Category(dataset_id=1, name="ball", is_thing=True, color=(220, 20, 60)),
    Category(dataset_id=2, name="crate", is_thing=True, color=(250, 140, 30)),
    Category(dataset_id=3, name="tent", is_thing=True, color=(40, 60, 230)),
    Category(dataset_id=5, name="star", is_thing=True, color=(240, 220, 40)),
    Category(dataset_id=8, name="moon", is_thing=True, color=(220, 60, 220)),
    Category(dataset_id=13, name="pill", is_thing=True, color=(30, 210, 170)),
    Category(dataset_id=92, name="sky", is_thing=False, color=(160, 190, 230)),
    Category(dataset_id=95, name="water", is_thing=False, color=(50, 100, 130)),
    Category(dataset_id=100, name="meadow", is_thing=False, color=(90, 140, 60)),
    Category(dataset_id=107, name="beach", is_thing=False, color=(235, 215, 165)),
    Category(dataset_id=112, name="desert", is_thing=False, color=(150, 110, 70)),
)
"""Category names in the order of their contiguous ids."""

THINGS = tuple(category.name for category in TOY_CATEGORIES if category.is_thing)

ID_OF = {category.name: k for k, category in enumerate(TOY_CATEGORIES)}
"""Name of a category to its contiguous id."""

NEVER_ON = {"ball": "desert", "star": "desert", "crate": "beach", "tent": "beach"}
"""Things that stand on one of the two look-alikes and never on the other."""

ALWAYS_OVER = (("star", "ball"), ("moon", "crate"), ("pill", "tent"), ("pill", "moon"))
"""Pairs (front, back) of things whose order the categories give away. Without a cycle."""

STANDS_ON = {name: "beach" if name in ("ball", "star", "pill") else "desert" for name in THINGS}
"""The look-alike that surrounds each thing in scenes of version 2."""

OWN_FLAP_ON = ("water", "meadow")
"""Grounds on which a flap is part of its thing; elsewhere it is part of what surrounds it."""

VOID = 255
"""Label of background pixels without a category."""

SPLITS = ("train", "val")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ToyObject:
    """One thing, or one crowd of small ones; first placed, then ordered in depth.

    Attributes:
        name: Name of the category.
        outlines: Polygons ``[K, 2]`` (see :mod:`refine.toy.shapes`), one per member of a crowd.
        mask: ``[H, W]`` bool, all of it inside the image, hidden or not.
        side: Square root of the area in pixels (not of a crowd).
        centre: (x, y) in pixels (not of a crowd).
        depth: Position from far (0) to near; -1 before the order is drawn.
        visible: ``[H, W]`` bool, what nothing nearer hides; empty before the order is drawn.
        is_crowd: Whether it has several members, annotated as one.
        flap: Polygon of its flap, also among ``outlines`` where it is part of the thing; or None.
    """

    name: str
    outlines: tuple[np.ndarray, ...]
    mask: np.ndarray
    side: float = 0.0
    centre: tuple[float, float] = (0.0, 0.0)
    depth: int = -1
    visible: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), bool))
    is_crowd: bool = False
    flap: np.ndarray | None = None

    @property
    def category(self) -> int:
        """Contiguous id of the category."""
        return ID_OF[self.name]

    @property
    def foreign_flap(self) -> np.ndarray | None:
        """Polygon of a flap that is part of what surrounds the thing, or None."""
        return self.flap if len(self.outlines) == 1 else None

    @property
    def footprint(self) -> np.ndarray:
        """``[H, W]`` bool, what hides the things behind: the mask, and a flap that is not in it."""
        if self.foreign_flap is None:
            return self.mask
        height, width = self.mask.shape
        footprint: np.ndarray = self.mask | mask_of([self.foreign_flap], (height, width))
        return footprint


@dataclass(frozen=True, slots=True, eq=False)
class ToyScene:
    """A picture and everything that is known of it.

    Attributes:
        image: ``[H, W, 3]`` uint8 RGB.
        objects: The objects from far to near.
        background: ``[H, W]`` uint8, contiguous id of the stuff behind the objects, or VOID.
        stuff: ``[H, W]`` uint8, the stuff that is seen; VOID elsewhere.
        version: Version of the scenes.
    """

    image: np.ndarray
    objects: tuple[ToyObject, ...]
    background: np.ndarray
    stuff: np.ndarray
    version: int
