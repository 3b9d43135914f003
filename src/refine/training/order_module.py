"""``stage=occlusion`` and ``stage=ranking``: order heads learn on a frozen detector."""

from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from refine.errors import RefineError
from refine.options import OcclusionStageOptions, RankingStageOptions
from refine.order.category_pairs import CategoryPairHead
from refine.order.heads import describe_head
from refine.order.occlusion_head import occlusion_loss, order_both_ways
from refine.order.pair_accuracy import PairAccuracy, compute_mask_areas, prefer_higher
from refine.order.pairs import (
    PairBatch,
    draw_pairs,
    find_predicted_pairs,
    gather_pairs,
    true_pairs,
)
from refine.order.ranking_head import RankingHead, compute_category_maps, ranking_loss
from refine.pipeline import Pipeline
from refine.training.base import TrainingModule
from refine.types import STRIDE, Batch, Observation

BASELINES = ("score", "area", "category")
"""Rules that occlusion heads are compared with at validation: the higher score, the smaller mask,
and how often the one category lies on the other in the training split."""


class OrderModule(TrainingModule):
    """Trains the heads of a stage, side by side, each as if it were alone.

    The network is frozen: no gradients, eval mode throughout (statistics do not move), and the
    optimizer does not know it.

    Args:
        pipeline: Trained network and the heads of the stage; other heads stay as they are.
        stage: Options of ``stage=occlusion`` or ``stage=ranking``.
        category_pairs: ``[num_things, num_things]`` int64 counts of the training split.
        **kwargs: See :class:`~refine.training.base.TrainingModule`.

    Attributes:
        result: Metrics of the last validation.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        stage: OcclusionStageOptions | RankingStageOptions,
        *,
        category_pairs: Tensor,
        **kwargs: Any,
    ) -> None:
        super().__init__(pipeline.requires_grad_(False), schedule=stage.schedule, **kwargs)
        self.stage = stage
        self.learning.requires_grad_(True)
        self.result: dict[str, float | int] = {}
        if isinstance(stage, OcclusionStageOptions):
            category = CategoryPairHead(len(category_pairs))
            category.counts.copy_(category_pairs)
            pipeline.heads["category"] = category
            self.accuracy = PairAccuracy([*stage.heads, *BASELINES])
        else:
            self.accuracy = PairAccuracy([*stage.heads])

    @property
    def learning(self) -> nn.ModuleDict:
        """The heads of the stage, by name."""
        return nn.ModuleDict({name: self.pipeline.heads[name] for name in self.stage.heads})

    def train(self, mode: bool = True) -> Self:
        """Only the heads ever train."""
        super().train(mode)
        self.pipeline.network.eval()
        return self

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Sum of the heads' losses."""
        losses, size = {}, len(batch.samples)
        if isinstance(self.stage, OcclusionStageOptions):
            seen = self.see_pairs(batch, generator=self.generator(batch_idx))
            pairs, truth = order_both_ways(seen.pairs)
            for name, head in self.learning.items():
                logits = head(seen.features, seen.masks, seen.labels, pairs)
                losses[name] = occlusion_loss(logits, truth)
        else:
            maps = compute_category_maps(batch.targets, num_things=self.pipeline.num_things)
            semantic = torch.stack([t.semantic for t in batch.targets])
            for name, head in self.learning.items():
                losses[name] = ranking_loss(head(maps), maps, semantic)
        for name, loss in losses.items():
            if not torch.isfinite(loss):
                raise RefineError(
                    f"the loss of head {name!r} is not finite at step {self.global_step}; lower "
                    "the learning rate of its stage"
                )
            self.log(f"train/{name}", loss.detach(), prog_bar=True, batch_size=size)
        return torch.stack(list(losses.values())).sum()

    def on_validation_epoch_start(self) -> None:
        """Reset the counts."""
        self.accuracy.reset()

    @torch.no_grad()
    def validation_step(self, batch: Batch) -> None:
        """Count the true pairs that each head and each baseline orders correctly."""
        if isinstance(self.stage, OcclusionStageOptions):
            self._compare_occlusion_heads(batch)
        else:
            self._compare_ranking_heads(batch)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/pair_accuracy_NAME`` and keep it as the result of this validation."""
        of_rules = self.accuracy.compute()
        self.result = {f"pair_accuracy_{name}": float(v) for name, v in of_rules.items()}
        self.result["num_pairs"] = int(self.accuracy.num_pairs)
        self.result_step = self.global_step
        self.log_dict({f"val/{name}": float(value) for name, value in self.result.items()})

    @torch.no_grad()
    def see_pairs(self, batch: Batch, *, generator: torch.Generator | None = None) -> PairBatch:
        """What the detector computes for the pairs of a batch, ``(top, bottom)``.

        Args:
            batch: Images with targets and their pairs.
            generator: Draws ``max_pairs`` pairs per image; None takes all, but none of images that
                only fill up a distributed sampler.
        """
        stage, targets = cast(OcclusionStageOptions, self.stage), batch.targets
        if stage.pairs == "predicted":
            observations = self.pipeline.network.observe(batch)
            pairs = [find_predicted_pairs(o, t) for o, t in zip(observations, targets, strict=True)]
        else:
            observations = self._observe_truth(batch)
            pairs = [true_pairs(t) for t in targets]
        if generator is not None:
            pairs = [draw_pairs(p, stage.max_pairs, generator) for p in pairs]
        else:
            images = zip(pairs, batch.samples, strict=True)
            pairs = [p[:0] if sample.is_padding else p for p, sample in images]
        return gather_pairs(observations, pairs)

    def configure_gradient_clipping(
        self,
        optimizer: Any,  # noqa: ARG002 - Lightning's signature
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,  # noqa: ARG002
    ) -> None:
        """Clip the gradient norm of each head by itself."""
        if gradient_clip_val is not None:
            for head in self.learning.values():
                nn.utils.clip_grad_norm_(head.parameters(), gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the record, and which heads the checkpoint holds."""
        heads = {name: describe_head(head) for name, head in self.pipeline.heads.items()}
        checkpoint["refine"] = self.record | {"heads": heads}

    def _observe_truth(self, batch: Batch) -> list[Observation]:
        boxes, labels = [t.boxes for t in batch.targets], [t.labels for t in batch.targets]
        return self.pipeline.network.observe_boxes(batch, boxes, labels)

    def _compare_occlusion_heads(self, batch: Batch) -> None:
        seen = self.see_pairs(batch)
        values = {"score": seen.scores, "area": -compute_mask_areas(seen.masks, seen.boxes)}
        answers = {name: prefer_higher(v, seen.pairs) for name, v in values.items()}
        for name in [*self.stage.heads, "category"]:
            forth, back = (
                self.pipeline.heads[name](seen.features, seen.masks, seen.labels, p).sigmoid()
                for p in (seen.pairs, seen.pairs.flip(1))
            )
            answers[name] = forth - back
        self.accuracy.update(answers)

    def _compare_ranking_heads(self, batch: Batch) -> None:
        """With predicted masks in true boxes."""
        size = (batch.images.shape[-2] // STRIDE, batch.images.shape[-1] // STRIDE)
        for observation, sample in zip(self._observe_truth(batch), batch.samples, strict=True):
            if sample.is_padding or sample.target is None:  # only fills up a distributed sampler
                continue
            raw, pairs = observation.raw, true_pairs(sample.target)
            masks = raw.mask_logits.float().sigmoid()
            scores = {
                name: cast(RankingHead, head).rank(masks, raw.boxes, raw.labels, size=size)
                for name, head in self.learning.items()
            }
            self.accuracy.update({k: prefer_higher(s, pairs) for k, s in scores.items()})
