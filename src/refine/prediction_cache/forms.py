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
from refine.types import PairOcclusions, RawPrediction

_LARGEST = 65504.0  # of float16


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
    tensors: Mapping[str, Tensor], num_categories: int, **sizes: tuple[int, int]
) -> RawPrediction:
    """The prediction of named tensors, whatever their form, and its two sizes.

    Raises:
        KeyError, TypeError: A tensor is missing.
        ValueError: Tensors contradict each other.
    """
    answers = _under("occlusion/", tensors)
    return RawPrediction(
        boxes=tensors["boxes"],
        scores=tensors["scores"],
        labels=tensors["labels"],
        mask_logits=tensors["mask_logits"].float(),
        semantic_logits=_restore_semantic(_under("semantic/", tensors), num_categories),
        **sizes,
        occlusions={
            head: PairOcclusions(**_under(f"{head}/", answers))
            for head in dict.fromkeys(key.split("/")[0] for key in answers)
        },
        rankings=_under("ranking/", tensors),
    )


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
