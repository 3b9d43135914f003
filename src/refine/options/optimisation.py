"""Optimiser and learning rate."""

from dataclasses import dataclass, field, replace

from refine.options.checks import check, check_choice, check_fractions, check_positive


@dataclass(kw_only=True)
class OptimizerOptions:
    """Optimiser.

    Attributes:
        name: ``sgd`` or ``adamw``.
        lr: Learning rate, for batches of ``lr_reference_batch_size``.
        lr_reference_batch_size: With other batches the learning rate grows or shrinks in
            proportion (Goyal et al. 2017); null: ``lr`` whatever the batch. Steps and warm-up
            stay as the schedule says.
        weight_decay: For every parameter but those of normalisation layers.
        norm_weight_decay: For the parameters of normalisation layers.
        momentum: SGD only.
    """

    name: str = "sgd"
    lr: float = 0.02
    lr_reference_batch_size: int | None = None
    weight_decay: float = 1e-4
    norm_weight_decay: float = 0.0
    momentum: float = 0.9

    def __post_init__(self) -> None:
        check_choice("optimizer.name", self.name, ("sgd", "adamw"))
        check_positive(self, "lr")
        if self.lr_reference_batch_size is not None:
            check_positive(self, "lr_reference_batch_size")

    def scaled_to(self, batch_size: int) -> "OptimizerOptions":
        """The same with the learning rate for this batch, which becomes the reference.

        Args:
            batch_size: Images an optimiser step, over all devices and accumulated batches.
        """
        if self.lr_reference_batch_size is None:
            return self
        lr = self.lr * batch_size / self.lr_reference_batch_size
        return replace(self, lr=lr, lr_reference_batch_size=batch_size)


@dataclass(kw_only=True)
class ScheduleOptions:
    """Learning rate over the steps of a run.

    Attributes:
        max_steps: Optimiser steps of the whole run; ``trainer.max_steps`` follows it.
        warmup_steps: Linear warm-up.
        warmup_factor: Learning rate at step 0 as a share of the full one.
        decay: ``multistep`` or ``cosine`` (to 0).
        milestones: Where multistep decays, as fractions of the run.
        gamma: Multistep's factor.
    """

    max_steps: int = 180_000
    warmup_steps: int = 1000
    warmup_factor: float = 0.001
    decay: str = "multistep"
    # 120k and 160k of 180k: detectron2's 2x schedule
    milestones: list[float] = field(default_factory=lambda: [2 / 3, 8 / 9])
    gamma: float = 0.1

    def __post_init__(self) -> None:
        check_choice("schedule.decay", self.decay, ("multistep", "cosine"))
        check_fractions(self, "warmup_factor", "gamma")
        check(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "0 or more")
