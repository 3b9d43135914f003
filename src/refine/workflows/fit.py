"""The command ``refine.train`` from Python: ``refine.fit(out=..., data={...})``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refine.api.predictor import Predictor, load
from refine.config.composition import compose
from refine.config.flatten import flatten
from refine.config.instantiate import to_options
from refine.config.settings import TrainSettings
from refine.options import DataOptions, to_plain
from refine.runs.run_folder import RunFolder
from refine.workflows.train_stages import train


def fit(
    *,
    out: str | Path,
    experiment: str = "finetune",
    data: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
) -> Predictor:
    """Train, as ``python -m refine.train`` does, and load the best checkpoint.

    A finished training in ``out`` is loaded, an interrupted one goes on.

    Args:
        out: Folder of the run: checkpoints, ``metrics.json``, ...
        experiment: A file in ``conf/experiment``. ``finetune`` chooses image size, anchors, batch
            and schedule from the data.
        data: Settings of ``data`` by name, as Python values.
        overrides: More settings, as on the command line.

    Raises:
        RefineError: Bad data, settings or weights, or ``out`` holds a run of other settings.

    Example:
        >>> import refine
        >>> model = refine.fit(
        ...     out="runs/cats",
        ...     data={
        ...         "train": {"images": "photos", "masks": "png", "annotations": "train.json"},
        ...         "val": {"images": "photos", "masks": "png", "annotations": "val.json"},
        ...     },
        ...     overrides=["weights=coco.ckpt", "trainer.max_steps=500"],
        ... )  # doctest: +SKIP
        >>> model.predict("cat.jpg").draw()  # doctest: +SKIP
    """
    own = [f"experiment={experiment}", f"run_dir={out}", *overrides]
    settings: TrainSettings = compose("train", own)
    settings.data = to_options(to_plain(settings.data), DataOptions, changes=data)
    settings.given += [f"data.{key}={value}" for key, value in flatten(data or {}).items()]
    train(settings)
    return load(RunFolder(out).final_checkpoint)
