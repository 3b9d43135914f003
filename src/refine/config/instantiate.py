"""Options and objects from configuration nodes; the only place that instantiates."""

import logging
import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from refine.config.messages import explain
from refine.config.processes import is_no_task_of_slurm
from refine.errors import RefineError, first_line
from refine.options import TrainerOptions, to_plain

T = TypeVar("T")

ALLOWED_TARGETS = ("refine.", "torch.optim.", "pytorch_lightning.")
"""A configuration may build these and nothing else (it may come from a stranger's checkpoint)."""
_NO_NEWS = ("💡 Tip: ", "TPU available: False", "`weights_only` was not set")


def to_options(node: Any, options: type[T], *, changes: Mapping[str, Any] | None = None) -> T:
    """The option dataclass of plain containers, out of a checkpoint for example.

    ``changes`` are other values for some of its keys; ``a.b`` is key ``b`` in section ``a``.

    Raises:
        RefineError: An unknown key, a wrong type, or a value outside its range.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(options), node)
        for key, value in (changes or {}).items():
            OmegaConf.update(merged, key, value)
        result = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        known: Any = OmegaConf.to_container(OmegaConf.structured(options))
        raise RefineError(explain(error, known=known)) from None
    except ValueError as error:
        raise RefineError(first_line(error)) from None
    assert isinstance(result, options)
    return result


def build(node: Mapping[str, Any], **extra: Any) -> Any:
    """Build the object that a node's ``_target_`` names, from its other keys and ``extra``.

    Raises:
        RefineError: The target is not allowed, or raises one itself.
    """
    target = str(node.get("_target_", ""))
    if not target.startswith(ALLOWED_TARGETS):
        raise RefineError(
            f"_target_={target!r} is not allowed; it must start with {', '.join(ALLOWED_TARGETS)}"
        )
    try:
        return hydra.utils.instantiate(node, **extra, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, RefineError):
            raise error.__cause__ from None
        raise


def build_all(group: Mapping[str, Any] | None, *, without: Collection[str] = ()) -> list[Any]:
    """Build the objects of a group such as ``callbacks``; a node that is None is left out."""
    nodes = (group or {}).items()
    return [build(node) for name, node in nodes if node is not None and name not in without]


def check_trainer(options: TrainerOptions) -> None:
    """Refuse, with a ``RefineError``, devices that are not there or that a sweep cannot share."""
    news = logging.getLogger("pytorch_lightning")
    level = news.level
    news.setLevel(logging.ERROR)  # the trainer of the run says the same
    try:
        with warnings.catch_warnings(action="ignore"):
            trainer = build_trainer(options, callbacks=[], loggers=[])
    finally:
        news.setLevel(level)
    cores = max(os.cpu_count() or 1, 2)  # two processes are for trying
    if trainer.strategy.root_device.type == "cpu" and trainer.num_devices > cores:
        raise RefineError(
            f"trainer.devices={options.devices}: there are no more than {cores} processors; give "
            "as many as there are, or fewer"
        )
    if trainer.world_size == 1 or not HydraConfig.initialized():
        return
    job: Any = HydraConfig.get()
    if job.mode != RunMode.MULTIRUN:
        return
    sweeper, launcher = (str(node._target_).split(".")[1] for node in (job.sweeper, job.launcher))
    fix = "give each job one device (trainer.devices=1), or start jobs on a cluster with " + (
        "hydra/launcher=submitit_slurm hydra.launcher.tasks_per_node=DEVICES (docs/clusters.md)"
    )
    if launcher == "_internal":  # each process of a job goes through all jobs
        if sweeper not in ("_internal", "refine_sweeper"):
            raise RefineError(
                f"hydra/sweeper: {sweeper} learns from results, and every process of a job with "
                f"trainer.devices={options.devices} would choose for itself; {fix}"
            )
    elif not trainer.strategy.cluster_environment.creates_processes_externally:
        raise RefineError(
            f"hydra/launcher: {launcher} does not start the {trainer.world_size} processes of a "
            f"job with trainer.devices={options.devices}; {fix}"
        )


def build_trainer(
    options: TrainerOptions,
    *,
    callbacks: list[Any],
    loggers: list[Any],
    plugins: Sequence[Any] = (),
    folder: str | None = None,
) -> Any:
    """Build the Lightning trainer; without loggers it does not log.

    On Slurm, what Lightning saves for a requeued job goes to ``folder``. It leaves the variables of
    a Slurm job alone that are not about this process.

    Raises:
        RefineError: Lightning refuses the settings, for example for want of a GPU.
    """
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment  # slow

    _leave_out_no_news()
    alone = [LightningEnvironment()] if is_no_task_of_slurm(options.devices) else []
    try:
        others = {"plugins": [*plugins, *alone] or None, "default_root_dir": folder}
        return build(to_plain(options), callbacks=callbacks, logger=loggers or False, **others)
    except InstantiationException as error:
        reason = str(error.__cause__ or error).splitlines()[-1]
        raise RefineError(
            f"trainer: {reason} (accelerator={options.accelerator}, devices={options.devices}; "
            "trainer=cpu needs no GPU)"
        ) from None


def _leave_out_no_news() -> None:
    """Drop lines of Lightning that are not about the run: advice to buy, TPUs, its own defaults."""
    for place in ("utilities.rank_zero", "trainer.connectors.checkpoint_connector"):
        logging.getLogger(f"pytorch_lightning.{place}").addFilter(_is_news)
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`")


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_NO_NEWS)
