"""From the host to a device without waiting for it."""

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of the host on ``device``; to a GPU through page-locked memory, unless it is there.

    A copy from other memory would wait for all work that the GPU has been given before.
    """
    if not tensor.is_cpu or torch.device(device).type in ("cpu", "mps"):
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
