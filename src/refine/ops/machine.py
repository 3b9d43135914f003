"""What a machine has: free memory, and how fast it computes."""

import re
import time
from contextlib import suppress
from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")
_CHANNELS, _SIDE, _TRIES = 256, 64, 3


def free_bytes(device: torch.device) -> int | None:
    """Memory that this process may still take on a GPU, or of the machine for the CPU.

    A container's limit counts, and its cache of files does not. None where nothing says so.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))
    limits = []
    if device.type == "cpu":
        with suppress(OSError):
            found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
            limits += [1024 * int(found[1])] if found else []
        with suppress(OSError, ValueError):  # "max" is no number
            limit, used = (int((_CGROUP / f"memory.{k}").read_text()) for k in ("max", "current"))
            # what has been read of files lies there as long as nobody needs the room
            cached = re.findall(r"active_file (\d+)", (_CGROUP / "memory.stat").read_text())
            limits.append(limit - used + sum(map(int, cached)))
    return min(limits, default=None)


def measure_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a 3x3 convolution of 256 channels, the best of a few tries.

    A multiply-add is two operations. It takes a fraction of a second on a CPU.
    """
    conv = torch.nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1, bias=False, device=device)
    x = torch.zeros(1 if device.type == "cpu" else 16, _CHANNELS, _SIDE, _SIDE, device=device)
    x = x.to(dtype).to(memory_format=torch.channels_last)
    conv = conv.to(dtype).to(memory_format=torch.channels_last)
    seconds = []
    with torch.no_grad():
        for _ in range(_TRIES):
            start = time.perf_counter()
            conv(x)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - start)
    return float(18 * _CHANNELS * x.numel() / min(seconds))
