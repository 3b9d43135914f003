"""Pickles of arrays and plain containers, read without giving them a way to run code."""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from refine.errors import RefineError, first_line


class _RefusedError(pickle.UnpicklingError):
    pass


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes into old pickles."""
    if encoding != "latin1":
        raise _RefusedError(f"text in {encoding}")
    return text.encode(encoding)


_reconstruct: Any = np.zeros(1).__reduce__()[0]  # not public by name
_scalar: Any = np.float32(0).__reduce__()[0]
_from_buffer: Any = np.zeros(1).__reduce_ex__(5)[0]
_ALLOWED = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": _encode,
    "__builtin__.bytes": lambda: b"",  # how Python 3 writes no bytes
    **{
        f"numpy.{core}.{name}": function
        for core in ("core", "_core")
        for name, function in (
            ("multiarray._reconstruct", _reconstruct),
            ("multiarray.scalar", _scalar),
            ("numeric._frombuffer", _from_buffer),
        )
    },
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """One of the allowed few: numpy's arrays, and nothing else that could be called."""
        try:
            return _ALLOWED[f"{module}.{name}"]
        except KeyError:
            raise _RefusedError(f"it asks for {module}.{name}") from None


def read_pickle(path: Path) -> Any:
    """The content of a pickle of Python 2 or 3: arrays, numbers, texts and plain containers.

    Nothing the file names is imported or called, apart from what rebuilds numpy's arrays.

    Raises:
        RefineError: The file is damaged, or asks for anything else.
    """
    try:
        with path.open("rb") as file:
            return _ArrayUnpickler(file, encoding="latin1").load()
    except _RefusedError as error:
        raise RefineError(
            f"{path}: refused, not a pickle of arrays and plain containers only ({error})"
        ) from None
    except Exception as error:  # what a damaged pickle raises is any of a dozen kinds
        raise RefineError(
            f"{path}: not a readable pickle ({type(error).__name__}: {first_line(error)}); "
            "download it again"
        ) from None
