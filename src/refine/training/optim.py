"""Parameter groups and learning rate."""

import math
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from refine.options import OptimizerOptions, ScheduleOptions

_NORM_LAYERS = (nn.GroupNorm, nn.LayerNorm, nn.modules.batchnorm._BatchNorm)


def build_optimizer(module: nn.Module, options: OptimizerOptions) -> Optimizer:
    """Optimizer of the parameters that learn; normalisation layers have their own decay."""
    norm_ids = {
        id(p) for m in module.modules() if isinstance(m, _NORM_LAYERS) for p in m.parameters()
    }
    learning = [p for p in module.parameters() if p.requires_grad]
    others = [p for p in learning if id(p) not in norm_ids]
    norms = [p for p in learning if id(p) in norm_ids]
    groups: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": decay}
        for parameters, decay in (
            (others, options.weight_decay),
            (norms, options.norm_weight_decay),
        )
        if parameters
    ]
    # fused: one pass over the parameters, on the CPU too
    if options.name == "adamw":
        return AdamW(groups, lr=options.lr, fused=True)
    return SGD(groups, lr=options.lr, momentum=options.momentum, fused=True)


def build_schedule(optimizer: Optimizer, options: ScheduleOptions, *, num_steps: int) -> LambdaLR:
    """Learning rate by step: linear warm-up, then multistep or cosine decay.

    Args:
        optimizer: Optimizer whose learning rate is scaled.
        options: Shape of the schedule; ``max_steps`` is not read.
        num_steps: Optimizer steps of the run.
    """
    return LambdaLR(optimizer, schedule_factor(options, num_steps=num_steps))


def schedule_factor(options: ScheduleOptions, *, num_steps: int) -> Callable[[int], float]:
    """Factor on the learning rate at a step, in [0, 1].

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
