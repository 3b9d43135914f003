"""``stage=ranking``: which category is seen where masks overlap, learned from true outlines."""

from typing import Any, cast

import torch
from torch import Tensor

from refine.order.pair_accuracy import PairAccuracy, prefer_higher
from refine.order.ranking_loss import ranking_loss
from refine.order.ranking_network import RankingHead
from refine.order.ranking_targets import compute_category_maps
from refine.training.heads import HeadModule
from refine.types import STRIDE, Batch


class RankingModule(HeadModule):
    """Trains ranking heads; the detector is only asked for masks at validation."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.accuracy = PairAccuracy(self.learning)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002
        """Sum of the heads' losses."""
        targets = batch.targets
        maps = compute_category_maps(targets, num_things=self.pipeline.num_things)
        semantic = torch.stack([t.semantic for t in targets])
        losses = {name: ranking_loss(h(maps), maps, semantic) for name, h in self.heads.items()}
        return self.sum_losses(losses, batch_size=len(batch.samples))

    def on_validation_epoch_start(self) -> None:
        """Start counting anew."""
        self.accuracy.reset()

    @torch.no_grad()
    def validation_step(self, batch: Batch) -> None:
        """Count which true pairs each head orders rightly, with predicted masks in true boxes."""
        targets = batch.targets
        observations = self.pipeline.network.observe_boxes(
            batch, [t.boxes for t in targets], [t.labels for t in targets]
        )
        size = (batch.images.shape[-2] // STRIDE, batch.images.shape[-1] // STRIDE)
        images = zip(observations, targets, batch.samples, strict=True)
        for observation, target, sample in images:
            assert target.pairs is not None
            if sample.is_padding:  # only fills up a distributed sampler
                continue
            raw = observation.raw
            masks = raw.mask_logits.float().sigmoid()
            scores = {
                name: cast(RankingHead, head).rank(masks, raw.boxes, raw.labels, size=size)
                for name, head in self.heads.items()
            }
            pairs = target.pairs
            self.accuracy.update({k: prefer_higher(s, pairs) for k, s in scores.items()})

    def on_validation_epoch_end(self) -> None:
        """Log ``val/pair_accuracy_NAME``."""
        self.keep_accuracies(self.accuracy)
