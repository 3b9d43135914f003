"""Between the host and a device without waiting."""

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of the host on ``device``; to a GPU through page-locked memory, unless it is there.

    A copy from other memory would wait for all work that the GPU has been given before.
    """
    if not tensor.is_cpu or torch.device(device).type in ("cpu", "mps"):
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def find(mask: Tensor, count: int) -> Tensor:
    """``[count]`` int64 positions where a ``[N]`` bool mask is true; the host knows how many."""
    if mask.device.type == "mps":  # where there is no nonzero_static
        return torch.nonzero(mask)[:, 0]
    return torch.nonzero_static(mask, size=count)[:, 0]
