"""Which windows of an order are the batches of one rank."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import DistributedSampler, SequentialSampler

from megabyte_mm.data.order import Order, Request
from megabyte_mm.views import Ints


class WindowSampler(DistributedSampler[Request], SequentialSampler):
    """The batches of one rank: the next pass begins in `epoch` at batch `start`; `done` are out.

    Training takes an order that shuffles; every rank gets the same number of full batches, and what is left over of an
    epoch waits for another order. Fewer items than make one batch on every rank become one smaller batch, in which
    items repeat only as far as the ranks need equal shares. Validation goes in order: every item once, in shares whose
    sizes differ by one at most, and as many batches on every rank; one may hold two items where batches hold one.

    It inherits for Lightning's eyes only, which would shard once more what is no DistributedSampler, and replace what
    is no SequentialSampler under `overfit_batches`.
    """

    def __init__(
        self, order: Order, batch_size: int, training: bool = False, rank: int = 0, world_size: int = 1
    ) -> None:
        self.items = len(order)
        if self.items < world_size and not training:
            raise ValueError(
                f"data.path holds {self.items} validation windows for {world_size} devices: "
                "give more data, or use fewer"
            )
        self.order = order
        self.batch_size = batch_size
        self.training = training
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.start = 0
        self.done = 0

    def set_epoch(self, epoch: int) -> None:
        """Begin that epoch at its first batch, unless it is the present one: then nothing changes."""
        if epoch != self.epoch:
            self.epoch, self.start, self.done = epoch, 0, 0

    def __len__(self) -> int:
        return len(self._cuts()) - 1

    def __iter__(self) -> Iterator[Request]:  # type: ignore[override]
        epoch, start, cuts = self.epoch, self.start, self._cuts()
        return (self.order.at(epoch, self._places(cuts[i], cuts[i + 1])) for i in range(start, len(cuts) - 1))

    def request(self, batch: int) -> Request:
        """A batch of the present epoch."""
        cuts = self._cuts()
        return self.order.at(self.epoch, self._places(cuts[batch], cuts[batch + 1]))

    def _places(self, first: int, last: int) -> Ints:
        """Where the items of this rank's share stand in the order; in training the ranks take turns."""
        share = np.arange(first, last)
        if self.training:
            return (share * self.world_size + self.rank) % self.items
        return share + self.items * self.rank // self.world_size

    def _cuts(self) -> Ints:
        """Where batches begin and end in the share: (len + 1,)."""
        largest = -(-self.items // self.world_size)
        if self.training:
            full = self.items // (self.batch_size * self.world_size)
            return np.arange(full + 1) * self.batch_size if full else np.array([0, largest])
        mine = self.items * (self.rank + 1) // self.world_size - self.items * self.rank // self.world_size
        # Ranks whose weights are cut over devices gather them together for each batch: one more would wait forever.
        count = min(-(-largest // self.batch_size), self.items // self.world_size)
        # A batch gives up items where the later ones would have none, so that no rank is a batch short.
        return np.append(np.minimum(np.arange(count) * self.batch_size, mine - count + np.arange(count)), mine)
