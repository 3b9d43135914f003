"""Modules outside this package that add backbones and relations, imported by name."""

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path

from refine.errors import RefineError, first_line


def import_plugins(names: Iterable[str]) -> None:
    """Import modules from the working folder, or from wherever else Python finds them.

    Raises:
        RefineError: There is no such module, or it fails.
    """
    here = str(Path.cwd())
    for name in map(str, names):
        is_new = here not in sys.path
        if is_new:  # a console script does not look there, as python -m does
            sys.path.insert(0, here)
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever the module raises
            raise RefineError(
                f"plugins: {name}: {type(error).__name__}: {first_line(error)}; give the name of a "
                "Python module, such as my_backbone for my_backbone.py in the working folder"
            ) from error
        finally:
            if is_new:
                sys.path.remove(here)
