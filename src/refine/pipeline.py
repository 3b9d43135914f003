"""Images in, panoptic maps out: the one inference path of training, commands and notebooks."""

from dataclasses import dataclass

import torch
from torch import nn

from refine.fusion.fuse import fuse
from refine.models.panoptic_fpn import PanopticFPN
from refine.options import FusionOptions
from refine.types import Batch, PanopticPrediction, RawPrediction


@dataclass(frozen=True, slots=True, eq=False)
class PipelineOutput:
    """What the pipeline says of one image.

    Attributes:
        raw: The network's answer, on the host.
        panoptic: After fusion, at original size.
    """

    raw: RawPrediction
    panoptic: PanopticPrediction


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
        network: PanopticFPN,
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
            batch: Images; targets and truths are not read.

        Raises:
            RefineError: The network's output is not finite.
        """
        raws = [raw.to("cpu") for raw in self.network.predict(batch)]
        return [PipelineOutput(raw, self._fuse(raw)) for raw in raws]

    def _fuse(self, raw: RawPrediction) -> PanopticPrediction:
        return fuse(
            raw,
            num_things=self.num_things,
            options=self.fusion,
            stuff_area_limit_px=self.stuff_area_limit_px,
        )
