"""The order of an epoch: pure functions of (seed, epoch, position) that need no earlier position.

With up to `OPEN_SHARDS` shards, a source is shuffled as a whole. With more, shards are shuffled, read in groups of
`OPEN_SHARDS`, and windows are shuffled within a group: a machine then needs one group at a time, not all the data.
Ranks take turns in the one order (`loader`), so that it does not depend on their number.

A mix takes windows of several sources in the proportion of their weights. Each source continues through its own epochs,
each of which holds every one of its windows once, across the epochs of the mix.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from megabyte_mm.data.storage.shards import OPEN_SHARDS
from megabyte_mm.data.windows import MIX, ORDER, SHARDS, random_bits
from megabyte_mm.errors import FieldError
from megabyte_mm.windows import Ints

MAX_EPOCH_WINDOWS = 2**22
"""Windows in an epoch of a mix, at most: its end is arbitrary anyway, and its order is held in memory."""


class WindowRequest(NamedTuple):
    """Windows by source, epoch of that source, and number in it; all (B,) int64."""

    sources: Ints
    epochs: Ints
    items: Ints


class SequentialOrder:
    """Every window of every source once, source by source, as validation reads them. counts: windows of each."""

    def __init__(self, counts: Sequence[int]) -> None:
        self._ends = np.cumsum(counts, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def at(self, epoch: int, positions: Ints) -> WindowRequest:
        """The windows at these positions, the same in every epoch: (B,) int64, 0..len - 1."""
        sources = np.searchsorted(self._ends, positions, side="right")
        starts = np.append(0, self._ends[:-1])[sources]
        return WindowRequest(sources, np.full_like(positions, epoch), positions - starts)


class SourceOrder:
    """One source's windows, shuffled, epoch after epoch: position n lies in epoch n // count, at n % count.

    counts: (S,) windows in each of its shards, in which windows are numbered consecutively. seed: of this source.
    """

    def __init__(self, counts: Ints, seed: int) -> None:
        self._counts = counts
        self._starts = np.cumsum(self._counts) - self._counts
        self.seed = seed
        self.count = int(self._counts.sum())
        self._layouts: dict[int, tuple[list[Ints], Ints]] = {}
        self._shuffled_groups: dict[tuple[int, int], Ints] = {}

    def at(self, positions: Ints) -> tuple[Ints, Ints]:
        """The epoch and the window at each position: (B,) int64 from 0 up -> twice (B,)."""
        epochs, within = positions // self.count, positions % self.count
        items = np.empty_like(positions)
        for epoch in set(epochs.tolist()):
            rows = np.flatnonzero(epochs == epoch)
            items[rows] = self._in_epoch(epoch, within[rows])
        return epochs, items

    def group_of(self, epoch: int, item: int) -> int:
        """The number of the group of shards that holds a window in an epoch."""
        shard = int(np.searchsorted(self._starts, item, side="right")) - 1
        return next(i for i, group in enumerate(self._layout(epoch)[0]) if shard in group)

    def group(self, epoch: int, number: int) -> Ints:
        """The shards of a group of an epoch."""
        return self._layout(epoch)[0][number]

    def group_after(self, epoch: int, number: int) -> Ints:
        """The shards of the next group, which may be the first of the next epoch."""
        groups = self._layout(epoch)[0]
        return groups[number + 1] if number + 1 < len(groups) else self._layout(epoch + 1)[0][0]

    def _in_epoch(self, epoch: int, within: Ints) -> Ints:
        if len(self._counts) <= OPEN_SHARDS:
            return self._shuffled_group(epoch, 0)[within]
        ends = self._layout(epoch)[1]
        groups = np.searchsorted(ends, within, side="right")
        items = np.empty_like(within)
        for group in set(groups.tolist()):
            rows = groups == group
            start = int(ends[group - 1]) if group else 0
            items[rows] = self._shuffled_group(epoch, group)[within[rows] - start]
        return items

    def _layout(self, epoch: int) -> tuple[list[Ints], Ints]:
        """The groups of shards of an epoch, and the end of each in it; kept for two epochs, whose windows may mix."""
        if epoch not in self._layouts:
            while len(self._layouts) > 1:
                del self._layouts[next(iter(self._layouts))]
            order = np.arange(len(self._counts))
            if len(order) > OPEN_SHARDS:
                order = np.argsort(random_bits(self.seed, epoch, SHARDS, order), kind="stable")
            groups = [order[i : i + OPEN_SHARDS] for i in range(0, len(order), OPEN_SHARDS)]
            self._layouts[epoch] = groups, np.cumsum([self._counts[group].sum() for group in groups], dtype=np.int64)
        return self._layouts[epoch]

    def _shuffled_group(self, epoch: int, group: int) -> Ints:
        """The windows of a group of shards in the order of an epoch; kept for this group and the one before it."""
        if (epoch, group) not in self._shuffled_groups:
            while len(self._shuffled_groups) > 1:
                del self._shuffled_groups[next(iter(self._shuffled_groups))]
            shards = self.group(epoch, group)
            items = np.concatenate([self._starts[shard] + np.arange(self._counts[shard]) for shard in shards])
            keys = random_bits(self.seed, epoch, ORDER, items)
            self._shuffled_groups[epoch, group] = items[np.argsort(keys, kind="stable")]
        return self._shuffled_groups[epoch, group]


class TrainingOrder:
    """The order of training over one source, or over several by weight.

    sources: the epochs of each. weights: of each, above 0. multiple: windows that all ranks take together at a step; an
    epoch of a mix is made of whole steps, so that no source loses windows at its end. Raises FieldError where a source
    is so light that an epoch would hold none of its windows.
    """

    def __init__(self, sources: Sequence[SourceOrder], weights: Sequence[float], multiple: int, seed: int) -> None:
        self.sources = sources
        self.seed = seed
        total = sum(source.count for source in sources)
        self._shares = np.array([total])
        if len(sources) > 1:
            steps = max(min(total, MAX_EPOCH_WINDOWS) // multiple, 1)
            self._shares = apportion(steps * multiple, weights)
        if not self._shares.all():
            raise FieldError(
                "data.sources",
                f": with the weights {', '.join(map(str, weights))} one source gets no window in an epoch of "
                f"{int(self._shares.sum())}: raise its weight, or add data",
            )
        self._mixed: tuple[int, Ints, Ints] | None = None

    def __len__(self) -> int:
        return int(self._shares.sum())

    def at(self, epoch: int, positions: Ints) -> WindowRequest:
        """The windows at these positions of an epoch: (B,) int64, 0..len - 1."""
        if len(self.sources) == 1:
            epochs, items = self.sources[0].at(epoch * len(self) + positions)
            return WindowRequest(np.zeros_like(items), epochs, items)
        labels, ranks = self._mix(epoch)
        sources = labels[positions]
        epochs, items = np.empty_like(positions), np.empty_like(positions)
        for number, source in enumerate(self.sources):
            rows = sources == number
            epochs[rows], items[rows] = source.at(epoch * int(self._shares[number]) + ranks[positions[rows]])
        return WindowRequest(sources, epochs, items)

    def _mix(self, epoch: int) -> tuple[Ints, Ints]:
        """The source at each position of an epoch, and the number of that source's windows before it: twice (len,)."""
        if self._mixed is None or self._mixed[0] != epoch:
            labels = np.repeat(np.arange(len(self._shares)), self._shares)
            # Sorting the labels is a permutation, whose inverse counts through each source's positions in turn.
            order = shuffled(len(labels), self.seed, epoch, MIX)
            mixed, ranks = labels[order], np.empty_like(labels)
            starts = np.cumsum(self._shares) - self._shares
            by_source = np.argsort(mixed, kind="stable")
            ranks[by_source] = np.arange(len(labels)) - starts[mixed[by_source]]
            self._mixed = epoch, mixed, ranks
        return self._mixed[1], self._mixed[2]


Order = SequentialOrder | TrainingOrder


def apportion(total: int, weights: Sequence[float]) -> Ints:
    """Whole numbers that sum to `total` in the proportion of the weights; the largest remainders are rounded up."""
    exact = total * np.array(weights, dtype=np.float64) / sum(weights)
    shares = np.floor(exact).astype(np.int64)
    largest_first = np.argsort(shares - exact, kind="stable")
    shares[largest_first[: total - int(shares.sum())]] += 1
    return shares


def source_seed(seed: int, name: str) -> int:
    """The seed of a source of that name in a mix; of an only source, which has no name, the seed itself."""
    if not name:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8])


def shuffled(count: int, seed: int, epoch: int, purpose: int = ORDER) -> Ints:
    """A permutation of range(count), the same for the same seed and epoch on every machine and version of numpy."""
    return np.argsort(random_bits(seed, epoch, purpose, np.arange(count)), kind="stable")
