"""DataLoaders of batches."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from refine.errors import RefineError
from refine.types import Batch


class BatchLoader(DataLoader[Any]):
    """A DataLoader whose bad input stays a one-line message.

    torch re-raises a worker's exception with the worker's whole traceback as its text; of a
    :class:`RefineError` only its own line is kept.
    """

    # torch promises its private iterator class here; whoever iterates needs an iterator only
    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Iterate; workers start when the first batch is asked for."""
        try:
            yield from super().__iter__()
        except RefineError as error:
            line = str(error).strip().splitlines()[-1]
            name = f"{RefineError.__module__}.{RefineError.__qualname__}: "
            raise RefineError(line.removeprefix(name)) from None


class ResumableLoader(BatchLoader):
    """The training loader, which starts where its batch sampler says that training stands.

    Lightning warns that a run resumed within an epoch sees other data unless the loader can save
    and load a state. This one can, and the state is empty: the position is a function of the
    trainer's count of batches (:class:`~refine.data.datamodule.ResumableDataModule`).
    """

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to load."""
