"""Batches of windows in an order that is a pure function of (seed, epoch), and a loader that resumes inside an epoch.

How a batch comes about: `WindowSampler` yields (epoch, items) for each batch of its rank, `WindowDataset` turns that
into a `Batch`, here or in a worker process, and `ResumableLoader` counts what it handed out. The epoch travels with the
items because workers live for many epochs and would not hear of a new one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, SequentialSampler

from megabyte_mm.alphabet import END
from megabyte_mm.data.records import Records
from megabyte_mm.data.windows import WindowGrid, shuffled
from megabyte_mm.views import Ints

Request = tuple[int, Ints]

BATCH_SIZE = 16
"""Windows in a batch where nothing else is said."""

SHARES = ("data.batch_size", "devices")
"""Entries of a loader's state whose product must stay the same: the windows of one batch on all devices."""


class Batch(NamedTuple):
    """ids: (B, T) int64, 0..256: bytes, and END to the end of the window after a record's last byte.

    condition: (B,) int64, 0 for none. seen: (B,) int64, how many of a row's first symbols are context that another row
    scores; 0 but in sliding windows.
    """

    ids: Tensor
    condition: Tensor
    seen: Tensor


class WindowDataset(Dataset[Batch]):
    """The windows of records as batches: `dataset[epoch, items]`, items (B,) int64 in 0..len(dataset) - 1.

    training: windows are jittered by (seed, epoch, item); otherwise they lie edge to edge, or overlap if `sliding`,
    whatever the epoch. limit: keep that many windows, spread evenly; None keeps all.
    """

    def __init__(
        self,
        records: Records,
        window: int,
        unit: int,
        seed: int = 0,
        training: bool = False,
        limit: int | None = None,
        sliding: bool = False,
    ) -> None:
        assert not (training and sliding), "training moves the windows itself"
        self.records = records
        self.grid = WindowGrid(records.lengths, window, unit, sliding)
        self.seed = seed
        self.training = training
        count = len(self.grid)
        self.items = np.arange(count) if limit is None or limit >= count else np.arange(limit) * count // limit

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, request: Request) -> Batch:
        epoch, items = request
        chosen = self.items[items]
        window = self.grid.window
        if self.training:
            records, starts = self.grid.jittered(chosen, self.seed, epoch)
            seen = np.zeros_like(starts)
        else:
            records, starts, seen = self.grid.fixed(chosen)
        # The same as `alphabet.fill_window` row by row, in a quarter of its time: one array, each place written once.
        ids = np.empty((len(items), window), dtype=np.int64)
        for row, record, start in zip(ids, records.tolist(), starts.tolist(), strict=True):
            data = self.records.read(record, start, start + window)
            row[: len(data)] = data
            row[len(data) :] = END
        condition = self.records.conditions[records]
        return Batch(torch.from_numpy(ids), torch.from_numpy(condition), torch.from_numpy(seen))


class WindowSampler(DistributedSampler[Request], SequentialSampler):
    """The batches of one rank, as (epoch, items): the next pass begins in `epoch` at batch `start`; `done` are out.

    Training shuffles; every rank gets the same number of full batches, and what is left over of an epoch waits for
    another order. Fewer items than make one batch on every rank become one smaller batch, in which items repeat only
    as far as the ranks need equal shares. Validation goes in order: every item once, in shares whose sizes differ by
    one at most, and the same number of batches on every rank, of which one may hold two items where batches hold one.

    It inherits for Lightning's eyes only, which would shard once more what is no DistributedSampler, and replace what
    is no SequentialSampler under `overfit_batches`.
    """

    def __init__(
        self, items: int, batch_size: int, seed: int = 0, training: bool = False, rank: int = 0, world_size: int = 1
    ) -> None:
        if items < world_size and not training:
            raise ValueError(
                f"data.path holds {items} validation windows for {world_size} devices: give more data, or use fewer"
            )
        self.items = items
        self.batch_size = batch_size
        self.seed = seed
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
        epoch, start = self.epoch, self.start
        share, cuts = self._share(epoch), self._cuts()
        return ((epoch, share[cuts[i] : cuts[i + 1]]) for i in range(start, len(cuts) - 1))

    def _share(self, epoch: int) -> Ints:
        """The items of this rank, in order; in training the ranks take turns, so that a batch is spread over them."""
        if not self.training:
            first, last = (self.items * rank // self.world_size for rank in (self.rank, self.rank + 1))
            return np.arange(first, last)
        order = shuffled(self.items, self.seed, epoch)
        even = -(-self.items // self.world_size) * self.world_size
        return np.resize(order, even)[self.rank :: self.world_size]

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


class ResumableLoader(DataLoader[Batch]):
    """A DataLoader whose state is plain values, and which continues after exactly the batches it had handed out.

    After `load_state_dict` the next pass is the rest of the saved epoch; every other pass is a whole epoch. A pass that
    ran to its end moves on to the next epoch, as does the sampler's `set_epoch`.
    """

    sampler: WindowSampler

    def __init__(
        self,
        dataset: WindowDataset,
        sampler: WindowSampler,
        fingerprint: str = "",
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
        )
        self.fingerprint = fingerprint

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # A generator, so that it looks at the sampler only when the first batch is asked for: Lightning calls `iter`
        # before it calls `set_epoch`.
        sampler = self.sampler
        sampler.done = sampler.start
        batches = super().__iter__()
        sampler.start = 0
        for batch in batches:
            sampler.done += 1
            yield batch
        sampler.set_epoch(sampler.epoch + 1)

    def state_dict(self) -> dict[str, int | str]:
        """The epoch, the batches handed out in it, and all that must stay the same for them to mean anything."""
        return {"epoch": self.sampler.epoch, "batches": self.sampler.done, **self._fixed()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the next pass the rest of the saved epoch. Raises ValueError naming what is no longer the same."""
        fixed = self._fixed()
        if math.prod(state.get(name, 0) for name in SHARES) == math.prod(int(fixed[name]) for name in SHARES):
            # Each update learns from the same windows, on however many devices.
            fixed = {name: value for name, value in fixed.items() if name not in SHARES}
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
            "data.seed": sampler.seed,
            "data.batch_size": sampler.batch_size,
            "devices": sampler.world_size,
            "data fingerprint": self.fingerprint,
        }
