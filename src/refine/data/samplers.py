"""Which image comes when, on which device.

Training batches are a function of (seed, epoch) and of the global batch size alone: neither the
number of devices nor of loader processes changes what a step sees.
"""

from collections.abc import Callable, Iterator

import numpy as np
from torch.utils.data import Sampler

from refine.data.coco_panoptic import SampleKey
from refine.errors import RefineError


class TrainBatchSampler(Sampler[list[SampleKey]]):
    """This rank's slice of every global batch.

    Images of a batch are all wide or all tall, so that padding stays small, except for the last
    ones of an epoch, which mix what both groups have left over. An epoch has ``n // batch_size``
    batches; what does not fill a batch waits for the next epoch's order. A dataset smaller than a
    batch makes one short batch (filled up to the number of ranks with repeats).

    Args:
        is_wide: ``[n]`` bool, the group of each image.
        batch_size: Images of a global batch.
        seed: Seed of the order.
        rank: Number of this process, of ``world_size``.
        world_size: Number of processes.
        position: Called at the start of each iteration for (epoch, batches of it already trained
            on): the iteration starts there, so a resumed run continues where it stopped.

    Raises:
        RefineError: ``batch_size`` is not a multiple of ``world_size``.
    """

    def __init__(
        self,
        is_wide: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        position: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:
        if batch_size % world_size:
            raise RefineError(
                f"batch_size={batch_size} cannot be shared by {world_size} devices; "
                "make it a multiple of their number"
            )
        self.is_wide = is_wide
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.position = position

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return max(1, len(self.is_wide) // self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch, done = self.position()
        shares = []
        # not a generator: where to start is settled now, not when the first batch is asked for
        for batch in self._global_batches(epoch)[done:]:
            size = -(-len(batch) // self.world_size)
            mine = np.resize(batch, (self.world_size, size))[self.rank]
            shares.append([SampleKey(epoch, place) for place in mine.tolist()])
        return iter(shares)

    def _global_batches(self, epoch: int) -> list[np.ndarray]:
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.is_wide))
        if len(order) < self.batch_size:
            return [order]
        batches, leftovers, due = [], [], []
        # a batch comes when its last image does, so the groups mix over the epoch
        for group in (np.flatnonzero(self.is_wide[order]), np.flatnonzero(~self.is_wide[order])):
            full = len(group) // self.batch_size * self.batch_size
            batches += list(order[group[:full]].reshape(-1, self.batch_size))
            due += group[self.batch_size - 1 : full : self.batch_size].tolist()
            leftovers.append(group[full:])
        mixed = np.sort(np.concatenate(leftovers))
        last = [order[mixed[: self.batch_size]]] if len(mixed) >= self.batch_size else []
        return [batches[k] for k in np.argsort(due)] + last


def eval_places(num_images: int, *, rank: int = 0, world_size: int = 1) -> range:
    """The places that a rank evaluates: every image once over all ranks, equally many on each.

    Places from ``num_images`` on are padding, which the dataset marks and metrics skip.
    """
    return range(rank, -(-num_images // world_size) * world_size, world_size)
