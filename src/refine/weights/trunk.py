"""The ResNet inside another network's state dict, under torchvision's names.

Many published networks keep a whole ResNet under a prefix (``module.``, ``backbone.``), and some as
an ``nn.Sequential`` of its children: ``features.0`` is the first convolution, ``features.1`` its
norm, ``features.4`` to ``features.7`` are the layers.
"""

import logging
import re
from collections.abc import Mapping

from torch import Tensor

from refine.errors import RefineError

_log = logging.getLogger(__name__)

_FIRST_BLOCK = re.compile(r"((?:.+\.)?)(?:layer1|4)\.0\.conv1\.weight")
_CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def find_trunk(
    state: Mapping[str, Tensor], *, source: str, prefix: str | None = None
) -> dict[str, Tensor]:
    """The tensors of the ResNet in a state dict, by torchvision's names.

    A state dict without one, or that is one, comes back as it is. What does not belong to the
    ResNet is left out with a line in the log.

    Args:
        state: Tensors by name.
        source: File name for messages.
        prefix: What the names of the ResNet begin with, if there are several; None: the only one.

    Raises:
        RefineError: There are several, or none with this prefix.
    """
    found = sorted({match[1] for name in state if (match := _FIRST_BLOCK.fullmatch(name))})
    start = prefix if prefix is not None else "".join(found[:1])
    if (start not in found and prefix is not None) or (len(found) > 1 and prefix is None):
        known = ", ".join(map(repr, found)) or "none"
        raise RefineError(f"{source}: name the ResNet with prefix=, one of {known}")
    if not start and "4.0.conv1.weight" not in state:
        return dict(state)
    inner = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
    if "4.0.conv1.weight" in inner:
        inner = {
            f"{_CHILDREN[child]}.{rest}": value
            for name, value in inner.items()
            for child, _, rest in [name.partition(".")]
            if child in _CHILDREN
        }
    _log.warning(
        "%s: took the ResNet under %r and left out %d other tensors; pixel statistics are "
        "torchvision's unless refine.convert is given pixel_mean= and pixel_std=",
        source, start, len(state) - len(inner),
    )  # fmt: skip
    return inner
