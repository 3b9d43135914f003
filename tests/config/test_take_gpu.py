"""Jobs that run at a time each have a GPU of their own, while there are enough."""

import os
import subprocess
import sys
from collections import Counter

import pytest

# a torch that sees three GPUs; the process waits for its standard input to close
CODE = """
import os, sys
from types import SimpleNamespace
from refine.config.processes import take_gpu
sys.modules["torch"] = SimpleNamespace(cuda=SimpleNamespace(device_count=lambda: 3))
take_gpu()
take_gpu()  # the next job of the process
print(os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("given", "names"), [(None, "0 1 2"), ("2,5,7", "2 5 7")])
def test_each_process_takes_the_gpu_that_fewest_have(tmp_path, given, names):
    env = os.environ | {"TMPDIR": str(tmp_path)}
    env.pop("CUDA_VISIBLE_DEVICES", None)
    env |= {} if given is None else {"CUDA_VISIBLE_DEVICES": given}

    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", CODE], env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        return process, process.stdout.readline().strip()

    names, started = names.split(), []
    try:
        started += [start() for _ in range(4)]
        taken = [gpu for _, gpu in started]
        assert sorted(taken[:3]) == names
        assert Counter(taken).most_common(1) == [(taken[3], 2)]
        process, gpu = started.pop(1)
        process.communicate()  # its GPU is free again
        started.append(start())
        assert started[-1][1] == gpu
    finally:
        for process, _ in started:
            process.communicate()
