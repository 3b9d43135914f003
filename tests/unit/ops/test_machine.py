import os

import torch

from refine.ops.machine import free_bytes, measure_flops

CPU = torch.device("cpu")


def test_free_memory_is_below_that_of_the_machine():
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 2**20 < free_bytes(CPU) < installed
    assert free_bytes(torch.device("meta")) is None


def test_speed_is_a_plausible_number_of_operations():
    assert 1e8 < measure_flops(CPU, torch.float32) < 1e14
