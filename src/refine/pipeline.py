"""Images in, panoptic maps out: the one inference path of training, commands and notebooks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from refine.detector.refine_net import RefineNet
from refine.errors import RefineError
from refine.fusion.evidence import Evidence
from refine.fusion.fuse import fuse
from refine.options import FusionOptions
from refine.order.heads import ask_heads, needed_head
from refine.types import Batch, GroundTruth, PanopticPrediction, RawPrediction


@dataclass(frozen=True, slots=True, eq=False)
class PipelineOutput:
    """What the pipeline says of one image.

    Attributes:
        evidence: The network's answer and what the fusion derived of it.
        panoptic: After fusion, at original size.
    """

    evidence: Evidence
    panoptic: PanopticPrediction

    @property
    def raw(self) -> RawPrediction:
        """The network's answer, on the host but for its semantic logits."""
        return self.evidence.raw


class Pipeline(nn.Module):
    """A network and the fusion that follows it.

    Args:
        network: Makes raw predictions.
        num_things: Contiguous categories below this are things.
        fusion: Knobs of the fusion.
        stuff_area_limit_px: Stuff segments with fewer original pixels become void.
        heads: Occlusion and ranking heads by name (:mod:`refine.order.heads`).

    Attributes:
        asks_all_heads: Every head answers for every image, as a prediction cache wants it, not
            only the one that the fusion reads.
    """

    def __init__(
        self,
        network: RefineNet,
        *,
        num_things: int,
        fusion: FusionOptions,
        stuff_area_limit_px: int,
        heads: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.num_things = num_things
        self.fusion = fusion
        self.stuff_area_limit_px = stuff_area_limit_px
        self.heads = nn.ModuleDict(heads)
        self.asks_all_heads = False

    @torch.inference_mode()
    def predict(self, batch: Batch) -> list[PipelineOutput]:
        """Predict a batch on the network's device.

        The caller has put the module into eval mode.

        Args:
            batch: Images; targets are not read, truths by the fusion's oracles alone.

        Raises:
            RefineError: The network's output is not finite; the image is named.
        """
        fusion = self.fusion
        min_score = fusion.merge.score_thresh if fusion.panoptic_only else 0.0
        observations = self.network.observe(batch, min_score=min_score)
        heads = self._asked_heads()
        outputs = []
        for observation, sample in zip(observations, batch.samples, strict=True):
            try:
                evidence = Evidence(_to_host(observation.raw), num_things=self.num_things)
                ask_heads(heads, observation, evidence, merge=fusion.merge)
                outputs.append(self._fuse(evidence, sample.truth))
            except RefineError as error:
                raise RefineError(f"{sample.file_name}: {error}") from None
        return outputs

    def fuse(self, raw: RawPrediction, truth: GroundTruth | None = None) -> PipelineOutput:
        """The fusion alone.

        Args:
            raw: The network's output for one image, or what a cache kept of it.
            truth: Of the image; the oracles read it.
        """
        return self._fuse(Evidence(raw, num_things=self.num_things), truth)

    def _asked_heads(self) -> dict[str, nn.Module]:
        needed = needed_head(self.fusion.relations)
        return {k: head for k, head in self.heads.items() if self.asks_all_heads or k == needed}

    def _fuse(self, evidence: Evidence, truth: GroundTruth | None) -> PipelineOutput:
        panoptic = fuse(
            evidence, self.fusion, stuff_area_limit_px=self.stuff_area_limit_px, truth=truth
        )
        return PipelineOutput(evidence, panoptic)


def _to_host(raw: RawPrediction) -> RawPrediction:
    """All but the semantic logits: the fusion needs a map of them, a hundredth of their size."""
    logits = raw.semantic_logits
    return replace(replace(raw, semantic_logits=logits[:0]).to("cpu"), semantic_logits=logits)
