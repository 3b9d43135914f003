"""Images in, panoptic maps out: the one inference path of training, commands and notebooks."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from refine.detector.refine_net import RefineNet
from refine.detector.views import average_masks
from refine.errors import RefineError
from refine.fusion.evidence import Evidence, require_finite
from refine.fusion.fuse_evidence import fuse
from refine.fusion.pixel_evidence import PixelEvidence, average_semantics
from refine.options import FusionOptions
from refine.order.heads import ask_heads, needed_head
from refine.types import Batch, Observation, PanopticPrediction, RawPrediction, Sample


class Pipeline(nn.Module):
    """A network and the fusion that follows it.

    Args:
        network: Makes raw predictions.
        num_things: Contiguous categories below this are things.
        fusion: Settings of the fusion.
        stuff_area_limit_px: Stuff segments with fewer original pixels become void.

    Attributes:
        heads: Occlusion and ranking heads by name (:mod:`refine.order.heads`); none at first.
        asks_all_heads: Every head answers for every image, as a prediction cache wants it, not
            only the one that the fusion reads.
        computes_in_half: The network computes in bfloat16 where that is safe.
    """

    def __init__(
        self,
        network: RefineNet,
        *,
        num_things: int,
        fusion: FusionOptions,
        stuff_area_limit_px: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.num_things = num_things
        self.fusion = fusion
        self.stuff_area_limit_px = stuff_area_limit_px
        self.heads = nn.ModuleDict()
        self.asks_all_heads = False
        self.computes_in_half = False

    @torch.inference_mode()
    def predict(self, batch: Batch) -> list[tuple[Evidence, PanopticPrediction]]:
        """Predict a batch on the network's device, in eval mode.

        Targets are not read, truths by the fusion's oracles alone. Images with ``views`` (all of a
        batch have some, or none has) are predicted one by one, from these.

        Returns:
            For each image the evidence, whose raw prediction is on the host except for its
            semantic logits, and the panoptic map at original size.

        Raises:
            RefineError: The network's output is not finite; the image is named.
        """
        fusion = self.fusion
        min_score = fusion.merge.score_thresh if fusion.panoptic_only else 0.0
        has_views = bool(batch.samples[0].views)
        with self._precision(batch.images.device):
            observations = [] if has_views else self.network.observe(batch, min_score=min_score)
        needed = needed_head(fusion.relations)
        heads = {k: h for k, h in self.heads.items() if self.asks_all_heads or k == needed}
        outputs = []
        for k, sample in enumerate(batch.samples):
            try:
                if has_views:
                    observation, evidence = self._observe_views(sample, min_score=min_score)
                else:
                    observation = observations[k]
                    evidence = Evidence(_to_host(observation.raw), num_things=self.num_things)
                ask_heads(heads, observation, evidence, merge=fusion.merge)
                limit = self.stuff_area_limit_px
                panoptic = fuse(evidence, fusion, stuff_area_limit_px=limit, truth=sample.truth)
                outputs.append((evidence, panoptic))
            except RefineError as error:
                raise RefineError(f"{sample.file_name}: {error}") from None
        return outputs

    def _precision(self, device: torch.device) -> AbstractContextManager[Any]:
        """What the network computes in."""
        if self.computes_in_half:
            return torch.autocast(device.type, torch.bfloat16)
        return nullcontext()

    def _observe_views(self, sample: Sample, *, min_score: float) -> tuple[Observation, Evidence]:
        """Detections of all views with their mean masks, and the mean semantic map."""
        with self._precision(self.network.pixel_mean.device):
            observations = self.network.observe_views(sample.views, sample, min_score=min_score)
        raws, are_flipped = [o.raw for o in observations], [v.is_flipped for v in sample.views]
        for raw in raws:
            require_finite(raw)
        semantic = average_semantics(raws, are_flipped, resize=self.fusion.semantic_resize)
        raw = average_masks(raws, are_flipped)
        evidence = PixelEvidence(_to_host(raw), *semantic, num_things=self.num_things)
        return Observation(raw, observations[0].features), evidence


def _to_host(raw: RawPrediction) -> RawPrediction:
    """All but the semantic logits: the fusion needs a map of them, a hundredth of their size."""
    logits = raw.semantic_logits
    return replace(replace(raw, semantic_logits=logits[:0]).to("cpu"), semantic_logits=logits)
