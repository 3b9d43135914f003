"""Parameter groups and learning rate."""

import math
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from refine.options import OptimizerOptions, ScheduleOptions

_NORM_LAYERS = (nn.GroupNorm, nn.LayerNorm, nn.modules.batchnorm._BatchNorm)


def build_optimizer(
    module: nn.Module, options: OptimizerOptions, *, fused: bool = True
) -> Optimizer:
    """Optimizer of the parameters that learn; normalisation layers have their own decay.

    Args:
        module: Module of the parameters.
        options: Name, learning rate, momentum and decay.
        fused: Whether one pass updates all parameters, also on the CPU. Such an optimizer unscales
            the gradients of mixed precision itself, too late for Lightning to clip them.
    """
    norm_ids = {
        id(p) for m in module.modules() if isinstance(m, _NORM_LAYERS) for p in m.parameters()
    }
    learning = [p for p in module.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = []
    for is_norm, decay in ((False, options.weight_decay), (True, options.norm_weight_decay)):
        parameters = [p for p in learning if (id(p) in norm_ids) == is_norm]
        groups += [{"params": parameters, "weight_decay": decay}] if parameters else []
    if options.name == "adamw":
        return AdamW(groups, lr=options.lr, fused=fused)
    return SGD(groups, lr=options.lr, momentum=options.momentum, fused=fused)


def schedule_factor(options: ScheduleOptions, *, num_steps: int) -> Callable[[int], float]:
    """Factor on the learning rate at a step of the run, in [0, 1]: warm-up, then decay.

    A run shorter than four warm-ups warms up over its first quarter, so that a trial of a few
    steps is not all warm-up; but over at least one step, as a full first step may diverge.
    """
    warmup = min(options.warmup_steps, max(num_steps // 4, 1))

    def factor(step: int) -> float:
        ramp = 1.0
        if step < warmup:
            ramp = options.warmup_factor + (1 - options.warmup_factor) * step / warmup
        progress = step / max(num_steps, 1)
        if options.decay == "cosine":
            return float(ramp * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))
        passed = sum(progress >= m for m in options.milestones)
        return float(ramp * options.gamma**passed)

    return factor
