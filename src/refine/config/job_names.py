"""Names of a multirun's jobs: short, unique and stable."""

import hashlib
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from omegaconf import DictConfig, read_write

from refine.config.composition import read_job
from refine.config.settings import Settings, is_place
from refine.errors import RefineError

_MAX_VALUE, _MAX_NAME = 24, 72
_OUTPUTS = ("run_dir", "out", "save_predictions")


def name_jobs(
    jobs: Sequence[tuple[str, Sequence[str], DictConfig]], *, swept: Collection[str]
) -> list[tuple[str, Settings | None]]:
    """A name for every job: its row, the values of the swept keys, and a hash of its settings.

    A folder of the multirun that ends in the same hash keeps its name, whatever was swept then.
    Beside the name are the settings, None where they are not valid. A ``RefineError`` says that two
    jobs would write into one folder.

    Args:
        jobs: Row (or an empty text), overrides and composed configuration of each.
        swept: Keys and groups whose values differ between the jobs.
    """
    named, owners = [], dict[Path, int]()
    for number, (row, overrides, config) in enumerate(jobs):
        varied = [o for o in overrides if o.partition("=")[0] in swept]
        settings, parent = read_job(config, number)  # without a name, that is the folder it is in
        identity = repr(list(overrides)) if settings is None else settings.identity()
        parts = [row] * bool(row) + [_shorten(o, config.hydra.runtime.choices) for o in varied]
        name = _name("+".join(parts), identity, varied, parent)
        with read_write(config.hydra):
            config.hydra.sweeper.job = name
        settings, folder = read_job(config, number)
        given = (getattr(settings, key, None) for key in _OUTPUTS)
        for place in {folder, *(Path(path).absolute() for path in given if path is not None)}:
            if owners.setdefault(place, number) != number:
                what = ",".join([row] * bool(row) + varied)[:99]
                raise RefineError(
                    f"{place}: jobs {owners[place]} and {number} ({what}) of the multirun would "
                    "both write there; give each its own folder"
                )
        named.append((name, settings))
    return named


def _shorten(override: str, choices: Collection[str]) -> str:
    """What an override adds to the name: a group's choice, or the end of the key and its value."""
    key, _, value = override.lstrip("+").partition("=")
    short = re.sub(r"[^A-Za-z0-9._-]+", "-", value).strip("-.")[-_MAX_VALUE:]
    return short if key in choices else f"{key.rpartition('.')[2]}-{short}"


def _name(label: str, identity: str, varied: Sequence[str], parent: Path) -> str:
    # where a run takes place is no part of its identity, unless that is what is swept
    places = sorted(o for o in varied if is_place(o.lstrip("+").partition("=")[0]))
    digest = hashlib.sha256(repr((identity, places)).encode()).hexdigest()[:8]
    name = f"{label[:_MAX_NAME]}+{digest}".lstrip("+")
    before = [] if (parent / name).exists() else sorted(parent.glob(f"*{digest}"))
    return before[0].name if before else name
