"""Optimizer and learning rate."""

from dataclasses import dataclass, replace

from refine.options.checks import FRACTION, NOT_NEGATIVE, POSITIVE, Options, Range, knob, one_of

_FRACTIONS = Range(lambda values: all(0 <= value <= 1 for value in values), "fractions in [0, 1]")


@dataclass(kw_only=True)
class OptimizerOptions(Options, section="optimizer"):
    """Optimizer.

    Attributes:
        name: ``sgd`` or ``adamw``.
        lr: Learning rate, for batches of ``lr_reference_batch_size``.
        lr_reference_batch_size: Batch size, in images, that ``lr`` is meant for; with others it
            changes in proportion (Goyal et al. 2017), not the schedule. None: ``lr`` always.
        weight_decay: Weight decay of every parameter but those of normalisation layers.
        norm_weight_decay: Weight decay of the parameters of normalisation layers.
        momentum: Momentum of SGD.
    """

    name: str = knob("sgd", one_of(("sgd", "adamw")))
    lr: float = knob(0.02, POSITIVE)
    lr_reference_batch_size: int | None = knob(None, POSITIVE)
    weight_decay: float = knob(1e-4, NOT_NEGATIVE)
    norm_weight_decay: float = knob(0.0, NOT_NEGATIVE)
    momentum: float = knob(0.9, FRACTION)

    def scaled_to(self, batch_size: int) -> "OptimizerOptions":
        """The same with the learning rate for this batch, which becomes the reference.

        The batch is that of an optimizer step, over all devices and accumulated batches.
        """
        if self.lr_reference_batch_size is None:
            return self
        lr = self.lr * batch_size / self.lr_reference_batch_size
        return replace(self, lr=lr, lr_reference_batch_size=batch_size)


@dataclass(kw_only=True)
class ScheduleOptions(Options, section="schedule"):
    """Learning rate over the steps of a run.

    Attributes:
        max_steps: Optimizer steps of the whole run; ``trainer.max_steps`` follows it.
        warmup_steps: Steps of the linear warm-up.
        warmup_factor: Learning rate at step 0 as a share of the full one.
        decay: ``multistep`` or ``cosine`` (to 0).
        milestones: Steps where multistep decays, as fractions of the run.
        gamma: Factor on the learning rate at each milestone.
    """

    max_steps: int = knob(180_000, POSITIVE)
    warmup_steps: int = knob(1000, NOT_NEGATIVE)
    warmup_factor: float = knob(0.001, FRACTION)
    decay: str = knob("multistep", one_of(("multistep", "cosine")))
    # 120k and 160k of 180k: detectron2's 2x schedule
    milestones: list[float] = knob([2 / 3, 8 / 9], _FRACTIONS)
    gamma: float = knob(0.1, FRACTION)
