import os
from pathlib import Path

import torch

from refine.ops.machine import free_bytes, measure_flops

CPU = torch.device("cpu")


def test_free_memory_is_below_that_of_the_machine():
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 2**20 < free_bytes(CPU) < installed
    assert free_bytes(torch.device("meta")) is None


def test_speed_is_a_plausible_number_of_operations():
    assert 1e8 < measure_flops(CPU, torch.float32) < 1e14


def test_a_container_has_its_limit_and_the_room_of_its_cached_files(monkeypatch):
    files = {
        "/proc/meminfo": "MemTotal:  9000 kB\nMemAvailable:    8000 kB\n",
        "/sys/fs/cgroup/memory.max": "5000000\n",
        "/sys/fs/cgroup/memory.current": "4900000\n",
        "/sys/fs/cgroup/memory.stat": "anon 900000\nfile 4000000\ninactive_file 2500000\n"
        "active_file 1400000\ninactive_anon 800000\n",
    }
    monkeypatch.setattr(Path, "read_text", lambda path: files[str(path)])
    assert free_bytes(CPU) == 4_000_000
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert free_bytes(CPU) == 8000 * 1024
