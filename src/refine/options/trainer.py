"""Settings of Lightning's trainer."""

from dataclasses import dataclass
from typing import Any

from refine.options.checks import LIMIT, NOT_NEGATIVE, POSITIVE, Options, Range, knob
from refine.options.processor import has_half_units

_BITS = ("32", "16", "32-true", "16-mixed", "bf16-mixed", "fast")  # the network is float32
_PRECISION = Range(lambda value: str(value) in _BITS, f"one of {', '.join(_BITS)}")


@dataclass(kw_only=True)
class TrainerOptions(Options, section="trainer"):
    """Arguments of ``pytorch_lightning.Trainer``, whose documentation explains each.

    Attributes:
        precision: Also ``fast``, for the CPU: ``bf16-mixed`` if it has units for that, else
            ``32-true``. What it is has then been chosen, and is recorded.
        max_time: ``DD:HH:MM:SS``, or a dictionary as ``datetime.timedelta`` takes it.
        val_check_interval: Training batches between validations.
        check_val_every_n_epoch: None counts those batches across epochs.
        use_distributed_sampler: Off, because the samplers of this package know the processes.
    """

    _target_: str = "pytorch_lightning.Trainer"
    accelerator: str = "auto"
    devices: Any = 1
    num_nodes: int = knob(1, POSITIVE)
    strategy: str = "auto"
    precision: int | str = knob("32-true", _PRECISION)
    max_steps: int = knob(-1, LIMIT)
    max_epochs: int | None = knob(-1, LIMIT)
    max_time: Any = None
    val_check_interval: int | float | None = knob(5000, POSITIVE)
    check_val_every_n_epoch: int | None = None
    limit_train_batches: int | float | None = knob(None, NOT_NEGATIVE)
    limit_val_batches: int | float | None = knob(None, NOT_NEGATIVE)
    num_sanity_val_steps: int = 0
    accumulate_grad_batches: int = knob(1, POSITIVE)
    gradient_clip_val: int | float | None = knob(None, NOT_NEGATIVE)
    log_every_n_steps: int = knob(20, POSITIVE)
    deterministic: bool | str = False
    benchmark: bool | None = False
    detect_anomaly: bool = False
    profiler: str | None = None
    enable_progress_bar: bool = True
    enable_model_summary: bool = False
    use_distributed_sampler: bool = False
    fast_dev_run: bool | int | None = knob(None, rare=True)
    overfit_batches: int | float | None = knob(None, rare=True)
    gradient_clip_algorithm: str | None = knob(None, rare=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precision != "fast":
            return
        self.require(
            self.accelerator == "cpu",
            "precision",
            "bf16-mixed or another of Lightning's; fast is for trainer.accelerator=cpu",
        )
        self.precision = "bf16-mixed" if has_half_units() else "32-true"
