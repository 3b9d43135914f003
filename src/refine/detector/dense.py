"""The part of the network that comes before any region, as a function of images alone."""

from torch import Tensor, nn

from refine.detector.refine_net import RefineNet

DENSE_OUTPUTS = ("p2", "p3", "p4", "p5", "p6", "semantic_feature", "semantic_logits")
"""Names of what :class:`DensePart` returns."""


class DensePart(nn.Module):
    """Backbone, pyramid and semantic head (``F_sem`` and eq. 1's ``P_sem^(0)``) of a network."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, network: RefineNet) -> None:
        super().__init__()
        self.backbone = network.backbone
        self.semantic_trunk = network.semantic_trunk
        self.semantic_predictor = network.ibpp.semantic_predictor
        self.register_buffer("pixel_mean", network.pixel_mean)
        self.register_buffer("pixel_std", network.pixel_std)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """What :data:`DENSE_OUTPUTS` names.

        Args:
            images: ``[B, 3, H, W]`` float32 RGB in 0..255; H and W multiples of 32. Padding has the
                colour ``pixel_mean``.

        Returns:
            Levels ``[B, C, ceil(H / s), ceil(W / s)]`` of strides s = 4, 8, 16, 32, 64; then the
            semantic feature and the logits ``[B, categories, H / 4, W / 4]``, things first.
        """
        levels = self.backbone((images - self.pixel_mean) / self.pixel_std)
        feature = self.semantic_trunk(levels[:4])
        return (*levels, feature, self.semantic_predictor(feature))
