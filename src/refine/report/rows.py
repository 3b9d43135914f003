"""Which run belongs to which row: decided from its configuration, never from a folder's name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

FULL_ITERATIONS = 3
"""T of the paper's full model: what tables 1, 2, 3, 5 and 6 call IBPP."""

ALL_INPUTS = frozenset({"mask", "feature", "label"})

HEAD_INPUTS = {
    "mask": frozenset({"mask"}),
    "feature": frozenset({"feature"}),
    "label": frozenset({"label"}),
    "ocfusion": frozenset({"mask", "feature"}),
    "strong": ALL_INPUTS,
    "category": frozenset({"statistics"}),
}
"""What the occlusion heads of ``conf/fusion`` read; a training's configuration tells it of its own
heads, and one of another name belongs to no row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What tells the rows apart.

    Attributes:
        backbone: ``r50``, ``r101``, ``x101``, ...; with ``-dcn`` if it is deformable.
        iterations: T.
        cascade: Box stages with rising IoU.
        direction: Of IBPP.
        carry: What crosses in IBPP.
        relation: Kind of relation between instances.
        inputs: What the occlusion head reads.
        sigma: Of soft occlusion.
        erasing: Mode of Unknown Erasing.
    """

    backbone: str
    iterations: int
    cascade: bool
    direction: str
    carry: str
    relation: str
    inputs: frozenset[str]
    sigma: float
    erasing: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A row's place: names in :data:`NETWORKS` and :data:`FUSIONS`.

    Attributes:
        backbone: As :attr:`Settings.backbone`; only COCO's rows ask for it.
        network: What is trained.
        fusion: What happens after the network.
    """

    backbone: str
    network: str
    fusion: str

    def accepts(self, settings: Settings, *, any_backbone: bool) -> bool:
        """Whether a run belongs to the row."""
        same = any_backbone or settings.backbone == self.backbone
        return same and NETWORKS[self.network](settings) and FUSIONS[self.fusion](settings)


_Predicate = Callable[[Settings], bool]


def _ibpp(iterations: int, direction: str = "both", carry: str = "both") -> _Predicate:
    wanted = (iterations, direction, carry)
    return lambda s: (s.iterations, s.direction, s.carry) == wanted


def _fused(
    relation: str,
    *,
    erasing: str = "off",
    inputs: frozenset[str] | None = None,
    sigma: float | None = None,
) -> _Predicate:
    return lambda s: (
        (s.relation, s.erasing) == (relation, erasing)
        and inputs in (None, s.inputs)
        and sigma in (None, s.sigma)
    )


NETWORKS: dict[str, _Predicate] = {
    "plain": lambda s: s.iterations == 0 and not s.cascade,
    "cascade": lambda s: s.iterations == 0 and s.cascade,
    "T=1": _ibpp(1),
    "T=2": _ibpp(2),
    "T=3": _ibpp(FULL_ITERATIONS),
    "sem_to_ins": _ibpp(FULL_ITERATIONS, direction="sem_to_ins"),
    "ins_to_sem": _ibpp(FULL_ITERATIONS, direction="ins_to_sem"),
    "features": _ibpp(FULL_ITERATIONS, carry="features"),
    "predictions": _ibpp(FULL_ITERATIONS, carry="predictions"),
}

FUSIONS: dict[str, _Predicate] = {
    "heuristic": _fused("score"),
    "area": _fused("area"),
    "shr": _fused("shr"),
    "srm": _fused("srm"),
    "statistics": _fused("occlusion", inputs=HEAD_INPUTS["category"]),
    "oracle": _fused("oracle"),
    "mask": _fused("occlusion", inputs=HEAD_INPUTS["mask"]),
    "feature": _fused("occlusion", inputs=HEAD_INPUTS["feature"]),
    "label": _fused("occlusion", inputs=HEAD_INPUTS["label"]),
    "ocfusion": _fused("occlusion", inputs=HEAD_INPUTS["ocfusion"]),
    "strong": _fused("occlusion", inputs=ALL_INPUTS),
    "soe": _fused("soft_occlusion", inputs=ALL_INPUTS),
    "soe-2.0": _fused("soft_occlusion", inputs=ALL_INPUTS, sigma=2.0),
    "soe-2.5": _fused("soft_occlusion", inputs=ALL_INPUTS, sigma=2.5),
    "soe-4.0": _fused("soft_occlusion", inputs=ALL_INPUTS, sigma=4.0),
    "ue": _fused("score", erasing="score"),
    "ue-oracle": _fused("score", erasing="oracle"),
    "soe+ue": _fused("soft_occlusion", erasing="score", inputs=ALL_INPUTS),
}


def read_settings(config: Mapping[str, Any]) -> Settings | None:
    """The settings of a run.

    Args:
        config: Content of its ``config.yaml``.

    Returns:
        None if the configuration has no network or no fusion (``refine.score``).
    """
    try:
        model, fusion = config["model"], config["fusion"]
        ibpp, relations = model["ibpp"], fusion["relations"]
        return Settings(
            backbone=_backbone(model["backbone"]),
            iterations=int(ibpp["num_iterations"]),
            cascade=bool(model["roi"]["cascade"]),
            direction=str(ibpp["direction"]),
            carry=str(ibpp["carry"]),
            relation=str(relations["kind"]),
            inputs=_inputs(config, str(relations["head"])),
            sigma=float(relations["sigma"]),
            erasing=str(fusion["unknown_erasing"]["mode"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _backbone(options: Mapping[str, Any]) -> str:
    name = str(options["name"]).partition("_")[0]
    return f"{name}-dcn" if options.get("dcn_stages") else name


def _inputs(config: Mapping[str, Any], head: str) -> frozenset[str]:
    own = ((config.get("occlusion") or {}).get("heads") or {}).get(head)
    if own is not None:
        return frozenset(name for name in ALL_INPUTS if own.get(f"use_{name}", True))
    return HEAD_INPUTS.get(head, frozenset())
