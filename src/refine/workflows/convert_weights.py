"""Converts published weights and checkpoints to the form of this package."""

from pathlib import Path

from refine.config.settings import ConvertSettings
from refine.errors import RefineError
from refine.runs.console import say
from refine.weights.formats import read_content, read_weights
from refine.weights.sources import locate_weights
from refine.weights.stored import save_weights
from refine.workflows.convert_detectron2 import convert_detectron2


def convert(settings: ConvertSettings) -> Path:
    """Convert a weights file or a checkpoint.

    Args:
        settings: Source, target and format.

    Returns:
        The file written. A backbone's weights are safetensors: torchvision's key names, for RGB
        images; the metadata holds the pixel statistics, the normalisation and the place of the
        stride. A Panoptic-FPN of detectron2 is a checkpoint of ours (``.ckpt``).

    Raises:
        RefineError: The source cannot be had, read or trusted, or ``out`` cannot be written.
    """
    out = Path(settings.out)
    is_whole = settings.format == "detectron2" or out.suffix == ".ckpt"
    _check_name(out, settings.format, is_whole=is_whole)
    source = locate_weights(settings.source)
    if out.exists() and out.samefile(source):
        raise RefineError(f"out={out} is the source itself; choose another name")
    if is_whole:
        kind = convert_detectron2(read_content(source), out, source=str(source))
        head = "cascade" if kind.cascade else "plain"
        say(f"{out}: detectron2's Panoptic-FPN, {kind.backbone}, {head} box head; evaluate it with")
        say(f"  python -m refine.evaluate ckpt_path={out} data.root=COCO")
        return out
    weights = read_weights(source, file_format=settings.format)
    save_weights(weights, out)
    stride = str(weights.stride_in_1x1).lower()
    say(
        f"{out}: {len(weights.tensors)} tensors; norm {weights.norm}; RGB mean "
        f"{list(weights.pixels.mean)}, std {list(weights.pixels.std)}; stride_in_1x1={stride}"
    )
    return out


def _check_name(out: Path, file_format: str, *, is_whole: bool) -> None:
    if is_whole and file_format not in ("auto", "detectron2"):
        raise RefineError(
            f"format={file_format} gives a backbone's weights, and a .ckpt is a whole network; "
            "end out= in .safetensors"
        )
    suffix = ".ckpt" if is_whole else ".safetensors"
    if out.suffix != suffix:
        result = "a checkpoint" if is_whole else "safetensors"
        raise RefineError(f"out={out}: the result is {result}; end the name in {suffix}")
