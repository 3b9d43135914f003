"""A small network that says which of two things in a crop lies on top."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headroom.pair_crops import PairCrops

_CHANNELS = (24, 32, 32)
_HIDDEN = 64
_LR = 3e-3
_WEIGHT_DECAY = 1e-3
_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Length and randomness of a training.

    Attributes:
        num_epochs: Times that every pair is seen.
        seed: Of everything.
        use_image: Look at the RGB crop, not only at the masks.
    """

    num_epochs: int
    seed: int
    use_image: bool


class OrderNetwork(nn.Module):
    """Convolutions, then the mean feature of the overlap and of what each thing has alone."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third = _CHANNELS
        self.trunk = nn.Sequential(
            nn.Conv2d(5, first, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(second, third, 3, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Sequential(
            nn.Linear(3 * third, _HIDDEN), nn.ReLU(), nn.Dropout(0.2), nn.Linear(_HIDDEN, 1)
        )

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Logits of "the first lies on top of the second".

        Args:
            images: ``[B, 3, S, S]`` in [-1, 1].
            masks: ``[B, 2, S, S]`` in [0, 1].

        Returns:
            ``[B]``.
        """
        features = self.trunk(torch.cat([images, masks], dim=1))
        one, other = F.avg_pool2d(masks, 2).unbind(1)
        regions = torch.stack([one * other, one * (1 - other), other * (1 - one)], dim=1)
        sums = torch.einsum("bchw,brhw->brc", features, regions)
        means = sums / regions.sum(dim=(2, 3))[..., None].clamp(min=1)
        logits: Tensor = self.head(means.flatten(1))[:, 0]
        return logits


def train_network(crops: PairCrops, training: Training) -> OrderNetwork:
    """Train on pairs, each at random in one of its two orders, mirrored and turned."""
    torch.manual_seed(training.seed)
    network = OrderNetwork()
    optimizer = torch.optim.AdamW(network.parameters(), _LR, weight_decay=_WEIGHT_DECAY)
    steps = training.num_epochs * -(-len(crops) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LR, total_steps=steps)
    for _ in range(training.num_epochs):
        for chosen in torch.split(torch.randperm(len(crops)), _BATCH):
            images, masks = _turn(*_to_floats(crops, chosen, use_image=training.use_image))
            is_swapped = torch.rand(len(chosen)) < 0.5
            masks = torch.where(is_swapped[:, None, None, None], masks.flip(1), masks)
            logits = network(images, masks)
            loss = F.binary_cross_entropy_with_logits(logits, (~is_swapped).float())
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def order_pairs(network: OrderNetwork, crops: PairCrops, *, use_image: bool) -> Tensor:
    """``[K]`` bool: the network puts the upper thing on top. It is asked in both orders."""
    answers = []
    for chosen in torch.split(torch.arange(len(crops)), _BATCH):
        images, masks = _to_floats(crops, chosen, use_image=use_image)
        answers.append(network(images, masks) > network(images, masks.flip(1)))
    return torch.cat(answers)


def _to_floats(crops: PairCrops, chosen: Tensor, *, use_image: bool) -> tuple[Tensor, Tensor]:
    images = crops.images[chosen].float() / 127.5 - 1
    return images if use_image else torch.zeros_like(images), crops.masks[chosen].float() / 255


def _turn(images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """A batch in one of its eight mirrorings and quarter turns."""
    both = torch.cat([images, masks], dim=1)
    mirrored, turns = torch.randint(2, ()).item(), int(torch.randint(4, ()).item())
    both = torch.rot90(both.flip(-1) if mirrored else both, turns, dims=(2, 3))
    return both[:, :3], both[:, 3:]
