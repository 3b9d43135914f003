"""Settings that somebody names although nothing reads them."""

from collections.abc import Callable, Iterable

from refine.options import FusionOptions, ModelOptions
from refine.options.fusion import LEARNED, RELATIONS

_OWN = RELATIONS.added  # may read any setting

# prefix of keys -> the setting that decides, what it has to be, and whether it is that
_READ_IF: dict[str, tuple[str, str, Callable[[FusionOptions, ModelOptions], bool]]] = {
    "fusion.unknown_erasing.": (
        "fusion.unknown_erasing.mode",
        "score or oracle",
        lambda fusion, _: fusion.unknown_erasing.mode != "off",
    ),
    "fusion.relations.sigma": (
        "fusion.relations.kind",
        "soft_occlusion",
        lambda fusion, _: fusion.relations.kind in ("soft_occlusion", *_OWN),
    ),
    "fusion.relations.shr_box_frac": (
        "fusion.relations.kind",
        "shr",
        lambda fusion, _: fusion.relations.kind in ("shr", *_OWN),
    ),
    "fusion.relations.head": (
        "fusion.relations.kind",
        " or ".join(LEARNED),
        lambda fusion, _: fusion.relations.kind in (*LEARNED, *_OWN),
    ),
    "model.ibpp.": (
        "model.ibpp.num_iterations",
        "1 or more",
        lambda _, model: model.ibpp.num_iterations > 0,
    ),
}


def find_idle(named: Iterable[str], fusion: FusionOptions, model: ModelOptions) -> list[str]:
    """A line for each key of ``named`` that changes nothing with these options."""
    lines = []
    for key in named:
        for prefix, (owner, needed, is_read) in _READ_IF.items():
            if key.startswith(prefix) and key != owner and not is_read(fusion, model):
                lines.append(f"{key} changes nothing unless {owner} is {needed}")
    return lines
