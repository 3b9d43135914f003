"""Raw predictions as named arrays, in three forms.

========  ================================================  ==========================
form      semantic logits                                   mask logits
========  ================================================  ==========================
full      float32: nothing is lost                          float32
half      gaps to the cell's best logit, float16            float16
compact   the categories that can decide something          float16
          (:mod:`refine.prediction_cache.semantic_evidence`)
========  ================================================  ==========================

Boxes, scores, labels, pairs, occlusions and rankings are kept as they are in all of them. ``half``
and ``compact`` give semantic logits back up to one constant per cell, which does not affect fusion.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from refine.prediction_cache.semantic_evidence import compress_logits, restore_logits
from refine.types import STRIDE, PairOcclusions, RawPrediction

_LARGEST = 65504.0  # of float16
_CELLS = ("semantic/counts", "semantic/gaps", "semantic/logits")  # those of cells are [h, w, ...]
_PADDING = 4096  # cells: an image may have been in a batch with larger ones


def to_tensors(raw: RawPrediction, form: str) -> dict[str, Tensor]:
    """Named tensors of a finite prediction, on its device, in one of the three forms."""
    tensors = {k: getattr(raw, k) for k in ("boxes", "scores", "labels", "mask_logits")}
    if form != "full":
        tensors["mask_logits"] = _to_half(raw.mask_logits)
    parts = _semantic_parts(raw.semantic_logits, form)
    tensors |= {f"semantic/{k}": t for k, t in parts.items()}
    for name, answers in raw.occlusions.items():
        tensors[f"occlusion/{name}/pairs"] = answers.pairs
        tensors[f"occlusion/{name}/probabilities"] = answers.probabilities
    return tensors | {f"ranking/{name}": scores for name, scores in raw.rankings.items()}


def from_tensors(
    tensors: Mapping[str, Tensor],
    num_categories: int,
    *,
    num_things: int,
    image_size: tuple[int, int],
    original_size: tuple[int, int],
) -> RawPrediction:
    """The prediction of named tensors, whatever their form, and its two sizes.

    Raises:
        KeyError, RuntimeError, TypeError: A tensor is missing or of another kind.
        ValueError: Tensors contradict each other, the sizes or the numbers of categories.
    """
    cells = next((t.shape[:2] for k, t in tensors.items() if k in _CELLS), (0, 0))
    limits = [-(-side // STRIDE) + _PADDING for side in image_size]
    if any(cell > limit for cell, limit in zip(cells, limits, strict=True)):
        raise ValueError(f"{[*cells]} semantic cells are too many for {[*image_size]} pixels")
    answers = _under("occlusion/", tensors)
    raw = RawPrediction(
        boxes=tensors["boxes"],
        scores=tensors["scores"],
        labels=tensors["labels"],
        mask_logits=tensors["mask_logits"].float(),
        semantic_logits=_restore_semantic(_under("semantic/", tensors), num_categories),
        image_size=image_size,
        original_size=original_size,
        occlusions={
            head: PairOcclusions(**_under(f"{head}/", answers))
            for head in dict.fromkeys(key.split("/")[0] for key in answers)
        },
        rankings=_under("ranking/", tensors),
    )
    _check(raw, num_things)
    return raw


def _check(raw: RawPrediction, num_things: int) -> None:
    """Shapes, types and ranges, which fusion relies on."""
    count, side = len(raw.scores), raw.mask_logits.shape[-1]
    _expect(raw.boxes, "boxes", (count, 4), torch.float32)
    _expect(raw.scores, "scores", (count,), torch.float32, high=1)
    _expect(raw.labels, "labels", (count,), torch.int64, high=num_things - 1)
    _expect(raw.mask_logits, "mask_logits", (count, side, side), torch.float32)
    for cells, pixels in zip(raw.semantic_logits.shape[1:], raw.image_size, strict=True):
        if cells * STRIDE < pixels:
            raise ValueError(f"{cells} semantic cells do not cover {pixels} pixels")
    for name, answers in raw.occlusions.items():
        pairs = len(answers.pairs)
        _expect(answers.pairs, f"pairs of {name}", (pairs, 2), torch.int64, high=count - 1)
        _expect(answers.probabilities, f"answers of {name}", (pairs,), torch.float32, high=1)
    for name, scores in raw.rankings.items():
        _expect(scores, f"ranking {name}", (count,), torch.float32)
    for name in ("boxes", "mask_logits", "semantic_logits"):
        if not getattr(raw, name).isfinite().all():
            raise ValueError(f"{name} that are not finite")


def _expect(
    values: Tensor, name: str, shape: tuple[int, ...], dtype: torch.dtype, high: float | None = None
) -> None:
    if values.shape != shape or values.dtype != dtype:
        raise ValueError(f"{name} are {values.dtype} {[*values.shape]}, not {dtype} {[*shape]}")
    # a mean of probabilities may exceed 1 by a rounding error
    if high is not None and not ((values >= 0) & (values <= high + 1e-5)).all():
        raise ValueError(f"{name} are not in 0 .. {high}")


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def _semantic_parts(logits: Tensor, form: str) -> dict[str, Tensor]:
    if form == "compact":
        return compress_logits(logits)
    # the categories of a cell lie side by side, as fusion reads them
    table = logits.float().permute(1, 2, 0)
    if form == "half":
        return {"gaps": _to_half(table - table.amax(dim=2, keepdim=True))}
    return {"logits": table}


def _restore_semantic(parts: Mapping[str, Tensor], num_categories: int) -> Tensor:
    if "counts" in parts:
        return restore_logits(parts, num_categories)
    table = parts["gaps"] if "gaps" in parts else parts["logits"]
    if table.shape[2] != num_categories:
        raise ValueError(f"{table.shape[2]} semantic categories: expected {num_categories}")
    return table.float().permute(2, 0, 1)


def _to_half(values: Tensor) -> Tensor:
    return values.clamp(-_LARGEST, _LARGEST).to(torch.float16)
