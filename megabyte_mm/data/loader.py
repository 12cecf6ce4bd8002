"""Batches of windows in an order that is a pure function of (seed, epoch), and a loader that resumes inside an epoch.

`WindowSampler` yields a `WindowRequest` for each batch of its rank, `WindowDataset` turns that into a `Batch`, in this
process or in a worker, and `ResumableLoader` counts the batches that it returned. A request carries its epoch,
because workers live for many epochs and are not notified of a new one.
"""

from __future__ import annotations

import atexit
import math
import signal
import weakref
from collections.abc import Iterator, Mapping
from contextlib import closing
from types import MappingProxyType
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, DistributedSampler, SequentialSampler

from megabyte_mm.data.dataset import Batch, WindowDataset
from megabyte_mm.data.order import Order, WindowRequest
from megabyte_mm.data.prefetch import ShardPrefetcher
from megabyte_mm.windows import Ints


class WindowSampler(DistributedSampler[WindowRequest], SequentialSampler):
    """The batches of one rank: the next iteration begins in `epoch` at batch `start`; `done` have been returned.

    Training takes a shuffled order; every rank gets the same number of full batches, and the rest of an epoch is left
    out. Fewer items than make one batch on every rank become one smaller batch, in which items repeat only as far as
    the ranks need equal shares. Validation goes in order: every item once, in shares whose sizes differ by one at most,
    and as many batches on every rank; one may hold two items where batches hold one.

    The base classes are for Lightning alone, which would shard again what is no DistributedSampler, and replace what is
    no SequentialSampler under `overfit_batches`.
    """

    def __init__(
        self, order: Order, batch_size: int, training: bool = False, rank: int = 0, world_size: int = 1
    ) -> None:
        self.items = len(order)
        if self.items < world_size and not training:
            raise ValueError(
                f"data.path holds {self.items} validation windows for {world_size} devices: "
                "add data, or use fewer devices"
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
        """Begin an epoch at its first batch; nothing changes for the current one."""
        if epoch != self.epoch:
            self.epoch, self.start, self.done = epoch, 0, 0

    def __len__(self) -> int:
        return len(self._cuts()) - 1

    def __iter__(self) -> Iterator[WindowRequest]:  # type: ignore[override]
        epoch, start, cuts = self.epoch, self.start, self._cuts()
        return (self.order.at(epoch, self._positions(cuts[i], cuts[i + 1])) for i in range(start, len(cuts) - 1))

    def request(self, batch: int) -> WindowRequest:
        """A batch of the current epoch."""
        cuts = self._cuts()
        return self.order.at(self.epoch, self._positions(cuts[batch], cuts[batch + 1]))

    def _positions(self, first: int, last: int) -> Ints:
        """Positions in the order of items of this rank's share; in training the ranks take turns."""
        share = np.arange(first, last)
        if self.training:
            return (share * self.world_size + self.rank) % self.items
        return share + self.items * self.rank // self.world_size

    def _cuts(self) -> Ints:
        """Bounds of the batches in the share: (len + 1,)."""
        largest = -(-self.items // self.world_size)
        if self.training:
            full = self.items // (self.batch_size * self.world_size)
            return np.arange(full + 1) * self.batch_size if full else np.array([0, largest])
        share = self.items * (self.rank + 1) // self.world_size - self.items * self.rank // self.world_size
        # Ranks whose weights are cut over devices gather them together for each batch: one more would wait forever.
        count = min(-(-largest // self.batch_size), self.items // self.world_size)
        # A batch gives up items where the later ones would have none, so that no rank is a batch short.
        return np.append(np.minimum(np.arange(count) * self.batch_size, share - count + np.arange(count)), share)


BATCH_SIZE = 16
"""Default number of windows in a batch."""

GLOBAL_BATCH_FIELDS = ("data.batch_size", "devices")
"""Entries of a loader's state whose product must stay the same: the windows of a step on all devices."""


def _unwrap_worker_error(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The batches; an error of a loading process, which torch wraps into its traceback, is raised as it was there."""
    try:
        yield from batches
    except (OSError, ValueError) as error:
        lines = str(error).strip().splitlines()
        if not lines or not lines[0].startswith("Caught "):
            raise
        raise type(error)(lines[-1].partition(": ")[2]) from error


def _ignore_signals(worker: int) -> None:
    """Leave signals to a whole process group to the training process, which decides when loading ends."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _end_workers(loader: weakref.ref[ResumableLoader]) -> None:
    """End remaining loading processes at exit: Python would send them SIGTERM, which they ignore, and wait."""
    alive = loader()
    iterator = None if alive is None else alive._iterator
    if iterator is not None:
        iterator._shutdown_workers()  # type: ignore[attr-defined] # as Lightning does after an orderly end


class ResumableLoader(DataLoader[Batch]):
    """A DataLoader whose state is plain values, and which continues after exactly the batches that it had returned.

    After `load_state_dict` the next iteration is the rest of the saved epoch; every other one is a whole epoch. A
    complete iteration advances to the next epoch, as does the sampler's `set_epoch`. fixed: settings that must be the
    same in a state that is loaded.
    """

    dataset: WindowDataset
    sampler: WindowSampler

    def __init__(
        self,
        dataset: WindowDataset,
        sampler: WindowSampler,
        fixed: Mapping[str, int | str] = MappingProxyType({}),
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(
            dataset,
            sampler=sampler,
            batch_size=None,
            num_workers=num_workers,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
            worker_init_fn=_ignore_signals,
        )
        self._settings = dict(fixed)
        if num_workers > 0:
            atexit.register(_end_workers, weakref.ref(self))

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # A generator, so that it reads the sampler only when the first batch is requested: Lightning calls `iter`
        # before it calls `set_epoch`.
        sampler = self.sampler
        sampler.done = sampler.start
        batches = super().__iter__()
        sampler.start = 0
        with closing(ShardPrefetcher(self.dataset.sources, sampler.order)) as prefetcher:
            for batch in _unwrap_worker_error(batches):
                if prefetcher.sources:
                    prefetcher.note(sampler.request(sampler.done))
                sampler.done += 1
                yield batch
        sampler.set_epoch(sampler.epoch + 1)

    def state_dict(self) -> dict[str, int | str]:
        """The epoch, the batches returned in it, and the settings that must stay the same for them to be valid."""
        return {"epoch": self.sampler.epoch, "batches": self.sampler.done, **self._fixed()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the next iteration the rest of the saved epoch. Raises ValueError naming the settings that differ."""
        fixed = self._fixed()
        if math.prod(state.get(name, 0) for name in GLOBAL_BATCH_FIELDS) == math.prod(
            int(fixed[name]) for name in GLOBAL_BATCH_FIELDS
        ):
            # Each update learns from the same windows, on any number of devices.
            fixed = {name: value for name, value in fixed.items() if name not in GLOBAL_BATCH_FIELDS}
        changed = [
            f"{name} was {state.get(name)} and is {now}" for name, now in fixed.items() if state.get(name) != now
        ]
        if changed:
            raise ValueError(
                f"cannot resume in the middle of the data, which changed: {'; '.join(changed)}. Resume with the data "
                "and settings of the checkpoint, or start a new run from its weights"
            )
        self.sampler.epoch = int(state["epoch"])
        self.sampler.start = self.sampler.done = int(state["batches"])

    def _fixed(self) -> dict[str, int | str]:
        sampler = self.sampler
        return {
            "windows": sampler.items,
            "data.batch_size": sampler.batch_size,
            "devices": sampler.world_size,
            **self._settings,
        }
