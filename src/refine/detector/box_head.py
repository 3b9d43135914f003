"""Box head: two fully connected layers on a 7x7 RoI feature (FPN, Lin et al. 2017)."""

import torch.nn.functional as F
from torch import Tensor, nn

from refine.detector.blocks import init_he

BOX_SIDE = 7
"""Side of the RoI feature that the box head reads."""


class BoxHead(nn.Module):
    """Classifies RoIs and regresses a box for each thing category, or one for all.

    Args:
        in_channels: Width of the RoI feature.
        num_things: Thing categories; the classifier adds background as label 0.
        fc_channels: Width of the two fully connected layers.
        class_agnostic: One box for all categories (a cascade's stages).
    """

    def __init__(
        self, in_channels: int, num_things: int, *, fc_channels: int, class_agnostic: bool = False
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_channels * BOX_SIDE**2, fc_channels)
        self.fc2 = nn.Linear(fc_channels, fc_channels)
        self.classifier = nn.Linear(fc_channels, 1 + num_things)
        self.regressor = nn.Linear(fc_channels, 4 * (1 if class_agnostic else num_things))
        init_he(self.fc1)
        init_he(self.fc2)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.normal_(self.regressor.weight, std=0.001)
        nn.init.zeros_(self.classifier.bias)
        nn.init.zeros_(self.regressor.bias)

    def forward(self, roi_features: Tensor) -> tuple[Tensor, Tensor]:
        """Classify and regress.

        Args:
            roi_features: ``[N, in_channels, 7, 7]``.

        Returns:
            Logits ``[N, 1 + num_things]`` over detector labels (0 is background) and box deltas
            ``[N, num_things or 1, 4]`` in the code of the box coder.
        """
        hidden = F.relu(self.fc1(roi_features.flatten(1)))
        hidden = F.relu(self.fc2(hidden))
        return self.classifier(hidden), self.regressor(hidden).unflatten(1, (-1, 4))
