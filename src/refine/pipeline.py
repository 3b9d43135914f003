"""Images in, panoptic maps out: the one inference path of training, commands and notebooks."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from refine.errors import RefineError
from refine.fusion.evidence import Evidence
from refine.fusion.fuse import fuse
from refine.models.refine_net import RefineNet
from refine.options import FusionOptions
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
        raws = self.network.predict(batch, min_score=min_score)
        outputs = []
        for raw, sample in zip(raws, batch.samples, strict=True):
            try:
                outputs.append(self.fuse(_to_host(raw), sample.truth))
            except RefineError as error:
                raise RefineError(f"{sample.file_name}: {error}") from None
        return outputs

    def fuse(self, raw: RawPrediction, truth: GroundTruth | None = None) -> PipelineOutput:
        """The fusion alone.

        Args:
            raw: The network's output for one image, or what a cache kept of it.
            truth: Of the image; the oracles read it.
        """
        evidence = Evidence(raw, num_things=self.num_things)
        panoptic = fuse(
            evidence, self.fusion, stuff_area_limit_px=self.stuff_area_limit_px, truth=truth
        )
        return PipelineOutput(evidence, panoptic)


def _to_host(raw: RawPrediction) -> RawPrediction:
    """All but the semantic logits: the fusion needs a map of them, a hundredth of their size."""
    logits = raw.semantic_logits
    return replace(replace(raw, semantic_logits=logits[:0]).to("cpu"), semantic_logits=logits)
