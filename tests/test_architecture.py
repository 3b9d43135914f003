"""The rules of the house: who may import whom, and how large a file or a function may get."""

import ast
import statistics
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "refine"
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_MEDIAN_FUNCTION_LINES = 12

# a layer a line; a room imports lower layers only, so rooms of one layer never import each other
_ROOMS = (
    "atomic errors", "options types categories resumable_download", "config ops",
    "detector metrics coco_format", "fusion", "order toy viz weights", "data pipeline",
    "prediction_cache runs layouts",
    "evaluation api", "training", "callbacks report", "workflows",
    "train evaluate predict fuse score convert check download convert_dataset export",
)  # fmt: skip
LAYERS = {room: layer for layer, rooms in enumerate(_ROOMS) for room in rooms.split()}

# third-party package -> the rooms (or files) that may import it; what is not listed is open to all
ONLY_IN = {
    "hydra": ("config",),
    "omegaconf": ("config",),
    "pytorch_lightning": ("data", "training", "callbacks", "workflows"),
    "torchmetrics": ("metrics", "order"),
    "pycocotools": ("ops/outlines",),
    "scipy": ("ops", "fusion/consensus", "data", "toy", "viz"),
    "PIL": ("api", "coco_format", "data", "toy", "viz"),
    "safetensors": ("weights", "prediction_cache", "coco_format/semantic_files"),
    "rich": ("runs", "callbacks", "workflows"),
    "torchvision.models": ("detector", "weights"),
    "torchvision.models.detection": ("detector/proposals",),
    "av": ("data/video",),
    "onnx": ("workflows/export_network",),
    "onnxruntime": ("workflows/export_network",),
    "wandb": ("callbacks", "report/__main__"),
    "pandas": ("report",),
    "jinja2": ("report",),
    "matplotlib": ("report",),
    "panopticapi": (),
}


def _files():
    return sorted(PACKAGE.rglob("*.py"))


@cache
def _parse(path):
    return ast.parse(path.read_text())


def _name(path):
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def _imports(path):
    for node in ast.walk(_parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("path", _files(), ids=_name)
def test_imports_lower_layers_only(path):
    room = _name(path).split("/")[0]
    if room == "__init__":
        return
    for module in _imports(path):
        parts = module.split(".")
        if parts[0] != "refine" or len(parts) == 1 or parts[1] == room:
            continue
        other = parts[1]
        allowed = LAYERS[other] < LAYERS[room]
        assert allowed, f"{room} (layer {LAYERS[room]}) imports {other} (layer {LAYERS[other]})"


@pytest.mark.parametrize("path", _files(), ids=_name)
def test_third_party_packages_stay_in_their_rooms(path):
    name = _name(path)
    for module in _imports(path):
        for package, rooms in ONLY_IN.items():
            if module == package or module.startswith(f"{package}."):
                at_home = any(name == r or name.startswith(f"{r}/") for r in rooms)
                assert at_home, f"{name} imports {module}, which belongs to {rooms or 'nobody'}"


@pytest.mark.parametrize("path", _files(), ids=_name)
def test_files_and_functions_are_short(path):
    assert len(path.read_text().splitlines()) <= MAX_FILE_LINES
    for function in _functions(_parse(path)):
        assert _length(function) <= MAX_FUNCTION_LINES, f"{function.name}: {_length(function)}"


def test_median_function_is_short():
    lengths = [_length(f) for path in _files() for f in _functions(_parse(path))]
    assert statistics.median(lengths) <= MAX_MEDIAN_FUNCTION_LINES


def test_no_two_modules_have_the_same_name():
    names = Counter(path.name for path in _files() if path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_scripts_are_short():
    for path in (PACKAGE.parents[1] / "scripts").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 120, path.name


def test_scoring_imports_neither_lightning_nor_torchvision():
    code = (
        "import sys, refine.score; "
        "sys.exit(any(m in sys.modules for m in ('pytorch_lightning', 'torchvision', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _functions(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def _length(function):
    """Lines of a function without its docstring."""
    body = function.body
    start = function.lineno
    total = (function.end_lineno or start) - start + 1
    first = body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total
