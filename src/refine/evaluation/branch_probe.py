"""What the branches of a network know, and what each makes of a perfect partner.

Figures with less noise than panoptic quality: cross-entropy of the semantic map on pixels of things
and of stuff, and IoU of the masks in true boxes that are shifted in the same way for every network.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from refine.categories import CategoryTable
from refine.detector.ibpp import IBPP
from refine.detector.losses import compute_loss_weights, total_loss
from refine.evaluation.evaluator import Evaluation
from refine.evaluation.per_iteration import add_iterations
from refine.ops.masks import paste_masks
from refine.ops.outlines import decode_mask
from refine.pipeline import Pipeline
from refine.types import IGNORE_INDEX, STRIDE, Batch, IterationTrace, TrainingTarget

_LEARNING_RATE = 1e-3  # of the toy experiments
_CERTAIN = 8.0
_SHIFT = 0.15  # maximum shift of a box's edge, as a share of its side: a mean IoU of about .76
_PQ = ("pq", "pq_things", "pq_stuff", "consensus_gap")


class InformedIBPP(IBPP):
    """Heads that read the truth: ``[B, C, h, w]`` shares of each category at stride 4, or None.

    The true semantic map is shown as the predicted one with its likeliest category corrected, or,
    to heads that are trained on it, as logits between 0 and 8 (``is_certain``).
    """

    true_canvas: Tensor | None = None
    true_semantics: Tensor | None = None
    is_certain = False

    def project_masks(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Eq. 5, or the true things."""
        if self.true_canvas is None:
            return super().project_masks(*args, **kwargs)
        canvas = self.true_canvas
        return canvas, torch.arange(canvas.shape[1], device=canvas.device)

    def pool_semantics(self, semantic_logits: Tensor, boxes: Sequence[Tensor], side: int) -> Tensor:
        """Eq. 3, of the prediction or of the truth."""
        if self.true_semantics is not None and self.is_certain:
            semantic_logits = _CERTAIN * self.true_semantics
        elif self.true_semantics is not None:
            semantic_logits = correct_logits(semantic_logits, self.true_semantics)
        return super().pool_semantics(semantic_logits, boxes, side)


def correct_logits(logits: Tensor, shares: Tensor) -> Tensor:
    """Logits whose largest value is at the true category: it changes places with that one's value.

    So heads that were trained on predictions see values as they know them. Cells of which more
    than half is void stay as they are.

    Args:
        logits: ``[B, C, h, w]``.
        shares: ``[B, C, h, w]`` share of each cell that shows each category, in [0, 1].
    """
    likeliest, true = logits.argmax(1, keepdim=True), shares.argmax(1, keepdim=True)
    largest, own = logits.gather(1, likeliest), logits.gather(1, true)
    corrected = logits.scatter(1, likeliest, own).scatter(1, true, largest)
    return torch.where(shares.sum(1, keepdim=True) >= 0.5, corrected, logits)


class _Sums:
    """Sums over images, for each iteration."""

    def __init__(self, pipeline: Pipeline, categories: CategoryTable) -> None:
        self.pipeline = pipeline
        count = pipeline.network.num_iterations + 1
        self.evaluations = [Evaluation(categories, pipeline.fusion) for _ in range(count)]
        self.sums = np.zeros((2, count, 2))  # of things and stuff: cross-entropy, pixels
        self.ious: list[list[float]] = [[] for _ in range(count)]

    def add(self, batch: Batch) -> None:
        """Add a batch of one image."""
        network, (target,), (size,) = self.pipeline.network, batch.targets, batch.image_sizes
        boxes = _shift_boxes(target, size, batch.samples[0].image_id)
        (in_true_boxes,) = network.trace(batch, ([boxes], [target.labels]))
        traces = [replace(t, raw=t.raw.to("cpu")) for t in network.trace(batch)[0]]
        add_iterations(self.evaluations, self.pipeline, batch.samples, [traces])
        labels, num_things = target.semantic.long().cpu(), self.pipeline.num_things
        is_stuff = (labels >= num_things) & (labels != IGNORE_INDEX)
        for t, trace in enumerate(traces):
            small = trace.raw.semantic_logits[None]
            logits = F.interpolate(small, scale_factor=STRIDE, mode="bilinear")
            losses = F.cross_entropy(
                logits, labels[None], ignore_index=IGNORE_INDEX, reduction="none"
            )[0]
            for sums, group in zip(self.sums, (labels < num_things, is_stuff), strict=True):
                sums[t] += float(losses[group].sum()), int(group.sum())
        for ious, trace in zip(self.ious, in_true_boxes, strict=True):
            ious += _compute_ious(trace, target) if len(trace.raw.boxes) else []

    def compute(self) -> dict[str, list[float]]:
        """Figures of iterations 0 to T; ``mask_iou`` has those with masks alone."""
        metrics = [e.compute().metrics for e in self.evaluations]
        figures = {key: [float(m[key]) for m in metrics] for key in _PQ}
        for name, of_group in zip(("things", "stuff"), self.sums, strict=True):
            figures[f"cross_entropy_{name}"] = (of_group[:, 0] / of_group[:, 1].clip(1)).tolist()
        return figures | {"mask_iou": [float(np.mean(v)) for v in self.ious if v]}


def probe_branches(
    pipeline: Pipeline,
    batches: Sequence[Batch],
    categories: CategoryTable,
    *,
    training: Sequence[Batch] = (),
) -> dict[str, dict[str, list[float]]]:
    """Figures of a network as it is, and if its heads read the truth.

    Without ``training`` it shows what heads that were trained on predictions make of the truth.
    With it, also what heads make of it that have learned to read it: the heads of IBPP, and they
    alone, are trained further, once with the truth and once as before.

    Args:
        pipeline: Pipeline in eval mode; its network is changed for good.
        batches: Images one at a time, with ground truth and training targets.
        categories: Categories of the dataset.
        training: Batches with training targets, one for each further step.

    Returns:
        For ``predicted``, ``true_canvas`` (true visible things in place of the masks) and
        ``true_semantics`` (the true map in place of P_sem), as far as these cross, and for each
        with ``_trained``, the figures of iterations 0 to T: PQ, its parts, consensus gap,
        ``cross_entropy_things`` and ``_stuff``; ``mask_iou`` of those iterations that have masks.
    """
    options, network = pipeline.network.options.ibpp, pipeline.network
    network.ibpp.__class__ = InformedIBPP
    crossing = {"true_canvas": options.canvas_crosses, "true_semantics": options.semantics_cross}
    names = [n for n, crosses in crossing.items() if crosses and network.num_iterations]
    figures = _probe(pipeline, batches, categories, {name: name for name in ("predicted", *names)})
    heads = deepcopy(network.ibpp.state_dict())
    cast(InformedIBPP, network.ibpp).is_certain = True
    for name in ("predicted", *names) if training and names else ():
        network.ibpp.load_state_dict(heads)
        _train_heads(pipeline, training, name, len(categories))
        figures |= _probe(pipeline, batches, categories, {f"{name}_trained": name})
    return figures


@torch.inference_mode()
def _probe(
    pipeline: Pipeline,
    batches: Iterable[Batch],
    categories: CategoryTable,
    shown: Mapping[str, str],
) -> dict[str, dict[str, list[float]]]:
    """Figures by name, each with what the heads are shown."""
    probes = {name: _Sums(pipeline, categories) for name in shown}
    for batch in batches:
        for name, sums in probes.items():
            _show(pipeline, batch, shown[name], len(categories))
            sums.add(batch)
    return {name: sums.compute() for name, sums in probes.items()}


def _show(pipeline: Pipeline, batch: Batch, name: str, num_categories: int) -> None:
    """Let the heads read the truth called ``name`` of this batch, or what is predicted."""
    ibpp, truth = cast(InformedIBPP, pipeline.network.ibpp), _true_shares(batch, num_categories)
    ibpp.true_canvas = truth[:, : pipeline.num_things] if name == "true_canvas" else None
    ibpp.true_semantics = truth if name == "true_semantics" else None


def _train_heads(
    pipeline: Pipeline, batches: Sequence[Batch], name: str, num_categories: int
) -> None:
    """Train the heads of IBPP further, a step for each batch; the rate falls to 0."""
    network = pipeline.network.requires_grad_(False).train()
    parameters = list(network.ibpp.requires_grad_(True).parameters())
    optimizer = torch.optim.AdamW(parameters, lr=_LEARNING_RATE)
    weights = compute_loss_weights(network.options)
    for step, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = _LEARNING_RATE * (1 - step / len(batches))
        _show(pipeline, batch, name, num_categories)
        losses = network.loss(batch, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        torch.autograd.backward(total_loss(losses, weights))
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
    network.eval()


def _true_shares(batch: Batch, num_categories: int) -> Tensor:
    """``[B, C, h, w]`` share of each cell that shows each category."""
    labels = torch.stack([t.semantic for t in batch.targets]).long().clamp(max=num_categories)
    planes = F.one_hot(labels, num_categories + 1)[..., :-1].permute(0, 3, 1, 2)
    return F.avg_pool2d(planes.float(), STRIDE)


def _shift_boxes(target: TrainingTarget, size: tuple[int, int], seed: int) -> Tensor:
    """True boxes ``[N, 4]`` whose edges have moved, inside an image of ``(height, width)``."""
    sides = (target.boxes[:, 2:] - target.boxes[:, :2]).repeat(1, 2)
    draws = torch.rand(sides.shape, generator=torch.Generator().manual_seed(seed)).to(sides)
    limit = sides.new_tensor([size[1], size[0], size[1], size[0]])
    return (target.boxes + sides * _SHIFT * (2 * draws - 1)).clamp(min=0).minimum(limit)


def _compute_ious(trace: IterationTrace, target: TrainingTarget) -> list[float]:
    """IoU of each mask with that of its instance, in network pixels."""
    raw, ious = trace.raw, []
    masks = raw.mask_logits.sigmoid().cpu().numpy()
    pasted = paste_masks(masks, raw.boxes.cpu().numpy(), raw.image_size, threshold=0.5)
    for crop, truth in zip(pasted, map(decode_mask, target.masks), strict=True):
        both = np.zeros((2, *raw.image_size), bool)
        both[0][crop.slices], both[1][truth.slices] = crop.mask, truth.mask
        ious.append(float(both.all(axis=0).sum() / max(both.any(axis=0).sum(), 1)))
    return ious
