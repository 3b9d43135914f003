"""A trained network as the start of another one, whose categories may be others."""

import re

import torch
from torch import Tensor

from refine.categories import CategoryTable
from refine.detector.refine_net import RefineNet
from refine.errors import RefineError
from refine.options import BackboneOptions
from refine.runs.checkpoint import Checkpoint
from refine.runs.console import list_some

_BODY = ("backbone.stem.", "backbone.stages.", "backbone.body.")

# outputs for things, with background first; codes of a box for each thing; masks; all categories
_CLASSIFIER = re.compile(r"box_cascade\.stages\.\d+\.head\.classifier\.")
_REGRESSOR = re.compile(r"box_cascade\.stages\.\d+\.head\.regressor\.")
_MASKS = re.compile(r"ibpp\.mask_heads\.\d+\.predictor_")
_SEMANTIC = re.compile(r"ibpp\.(semantic_predictor|refined_heads\.\d+)\.predictor\.")
# inputs: features, then all categories (eq. 4); things, then features (eq. 6)
_READS_SEMANTICS = re.compile(r"ibpp\.mask_heads\.\d+\.convs\.0\.0\.weight")
_READS_CANVAS = re.compile(r"ibpp\.refined_heads\.\d+\.convs\.0\.0\.weight")


def start_from(
    network: RefineNet,
    checkpoint: Checkpoint,
    categories: CategoryTable,
    *,
    options: BackboneOptions,
) -> str:
    """Copy a checkpoint's network into ``network``, which is changed in place.

    Outputs and inputs that belong to a category take those of the category with the same name (and
    kind: thing or stuff); new categories, and tensors that do not fit, keep their random values.

    Args:
        network: A network for ``categories``.
        checkpoint: Any checkpoint of this package, converted ones too.
        categories: What the network is to predict.
        options: Its backbone.

    Returns:
        One line: what was taken, and what was not.

    Raises:
        RefineError: Another body: its tensors differ, or the place of its stride.
    """
    new, old = network.state_dict(), checkpoint.network
    widths = network.backbone.channels, new["ibpp.semantic_predictor.predictor.weight"].shape[1]
    axes = _Axes(checkpoint.categories, categories, widths=widths)
    taken = {
        k: v for k, v in ((k, axes.convert(k, new[k], old.get(k))) for k in new) if v is not None
    }
    left = sorted(new.keys() - taken.keys())
    theirs = checkpoint.sections.model.backbone
    is_other = theirs.stride_in_1x1 != options.stride_in_1x1
    if is_other or any(k.startswith(_BODY) for k in left):
        raise RefineError(
            f"weights={checkpoint.path}: has another body; use model.backbone.name={theirs.name} "
            f"norm={theirs.norm} stride_in_1x1={str(theirs.stride_in_1x1).lower()}"
        )
    network.load_state_dict(new | taken)
    known, unknown = (
        [c.name for c, k in zip(categories.categories, axes.all, strict=True) if (k >= 0) == is_old]
        for is_old in (True, False)
    )
    return (
        f"{checkpoint.path}: {len(taken)} of {len(new)} tensors; categories by name: "
        f"{len(known)} of {len(categories)} ({list_some(known) or 'none'})"
        + (f"; at random: {list_some(unknown)}" if unknown else "")
        + (f"; other tensors at random: {', '.join(left[:4])}" if left else "")
    )


class _Axes:
    """For each new category the old one of its name, or -1, on every kind of axis."""

    def __init__(self, old: CategoryTable, new: CategoryTable, *, widths: tuple[int, int]) -> None:
        self.widths = (
            widths  # features that masks read beside semantics, and semantics beside masks
        )
        places = {(c.name, c.is_thing): k for k, c in enumerate(old.categories)}
        self.all = [places.get((c.name, c.is_thing), -1) for c in new.categories]
        self.old_count, self.old_things = len(old), old.num_things
        self.things = self.all[: new.num_things]
        self.merged = [
            0,
            *(k if k < 0 else k - old.num_things + 1 for k in self.all[new.num_things :]),
        ]

    def convert(self, name: str, new: Tensor, old: Tensor | None) -> Tensor | None:
        """The old tensor in the shape of the new one, or None if it does not fit."""
        if old is None or old.dim() != new.dim():
            return None
        found = self._find(name, new, old)
        if found is None:
            return old.to(new) if old.shape == new.shape else None
        dim, index = found
        if len(index) != new.shape[dim] or _others(old, dim) != _others(new, dim):
            return None
        source = torch.tensor(index)
        values = old.to(new).index_select(dim, source[source >= 0])
        return new.clone().index_copy_(dim, (source >= 0).nonzero().flatten(), values)

    def _find(self, name: str, new: Tensor, old: Tensor) -> tuple[int, list[int]] | None:
        """The dimension that belongs to categories, and where its entries come from."""
        if _CLASSIFIER.match(name):
            return 0, [0, *(k if k < 0 else k + 1 for k in self.things)]
        if _REGRESSOR.match(name) and len(old) == 4 * self.old_things:
            return 0, [k if k < 0 else 4 * k + j for k in self.things for j in range(4)]
        if _MASKS.match(name) and len(old) == self.old_things:
            return 0, self.things
        if _SEMANTIC.match(name):
            return 0, self.all if len(old) == self.old_count else self.merged
        if _READS_SEMANTICS.fullmatch(name) or _READS_CANVAS.fullmatch(name):
            return self._find_columns(name, new.shape[1], old.shape[1])
        return None

    def _find_columns(self, name: str, new: int, old: int) -> tuple[int, list[int]] | None:
        is_canvas = _READS_CANVAS.fullmatch(name) is not None
        crossing, count = (
            (self.things, self.old_things) if is_canvas else (self.all, self.old_count)
        )
        features = self.widths[is_canvas]
        if new != features + len(crossing) or old != features + count:
            return None  # nothing crosses, or another width
        if is_canvas:
            return 1, [*crossing, *(count + k for k in range(features))]
        return 1, [*range(features), *(k if k < 0 else features + k for k in crossing)]


def _others(tensor: Tensor, dim: int) -> list[int]:
    """The sizes of all dimensions but one."""
    return [size for k, size in enumerate(tensor.shape) if k != dim]
