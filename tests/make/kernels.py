"""Triton kernels without a GPU: interpreted, and compiled for a card that is not here."""

import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any

import pytest


def run_interpreted(program: str) -> str:
    """What a Python program prints where every kernel is interpreted; its errors fail the test.

    Another process: what Triton itself defines must be defined for the interpreter, too.
    """
    pytest.importorskip("triton")
    command = [sys.executable, "-c", program]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if "int(self.handle.data))" in done.stderr and "only 0-dimensional arrays" in done.stderr:
        pytest.skip(  # later ones squeeze that array of one number
            "the interpreter of Triton 3.6 cannot count loops with NumPy 2.5"
        )
    assert done.returncode == 0, done.stderr
    return done.stdout


def compile_kernel(
    module: str,
    name: str,
    *,
    pointers: dict[str, str],
    constants: dict[str, Any],
    divisible: Sequence[str] = (),
) -> None:
    """Compile a kernel for compute capability 9.0; arguments without a type are int32.

    With the pointers as aligned as PyTorch's memory is; what is ``divisible`` by 16 may be said.
    """
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(importlib.import_module(module), name)
    types = dict.fromkeys(constants, "constexpr") | pointers
    signature = {argument: types.get(argument, "i32") for argument in kernel.arg_names}
    aligned = [n for n in signature if signature[n].startswith("*") or n in divisible]
    attributes = {(kernel.arg_names.index(n),): [["tt.divisibility", 16]] for n in aligned}
    source = ASTSource(kernel, signature, constants, attributes)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", folder)  # not in the home
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    assert compiled.asm["cubin"]
