"""Parameter groups and learning rate."""

import math
from collections.abc import Callable

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from refine.options import OptimizerOptions, ScheduleOptions

_NORM_LAYERS = (nn.GroupNorm, nn.LayerNorm, nn.modules.batchnorm._BatchNorm)


def build_optimizer(module: nn.Module, options: OptimizerOptions) -> Optimizer:
    """Optimiser over the parameters that learn; normalisation layers decay by their own value."""
    norm_ids = {
        id(p) for m in module.modules() if isinstance(m, _NORM_LAYERS) for p in m.parameters()
    }
    learning = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {
            "params": [p for p in learning if id(p) not in norm_ids],
            "weight_decay": options.weight_decay,
        },
        {
            "params": [p for p in learning if id(p) in norm_ids],
            "weight_decay": options.norm_weight_decay,
        },
    ]
    groups = [g for g in groups if g["params"]]
    # fused: one pass over the parameters, on the CPU too
    if options.name == "adamw":
        return AdamW(groups, lr=options.lr, fused=True)
    return SGD(groups, lr=options.lr, momentum=options.momentum, fused=True)


def build_schedule(optimizer: Optimizer, options: ScheduleOptions, *, num_steps: int) -> LambdaLR:
    """Learning rate by step: linear warm-up, then multistep or cosine decay.

    Args:
        optimizer: Whose learning rate is scaled.
        options: Shape of the schedule; ``max_steps`` is not read.
        num_steps: Optimiser steps of the run.
    """
    return LambdaLR(optimizer, schedule_factor(options, num_steps=num_steps))


def schedule_factor(options: ScheduleOptions, *, num_steps: int) -> Callable[[int], float]:
    """The factor on the learning rate at a step, in [0, 1].

    A run shorter than four warm-ups warms up over its first quarter, so that a trial of a few
    steps is not all warm-up; but over one step at least, as a full first step may diverge.
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
