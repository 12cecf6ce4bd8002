"""Which window is the n-th of an epoch: pure functions of (seed, epoch), for any n without those before it.

One source of up to `OPEN_SHARDS` shards is shuffled whole. Of more, the shards are shuffled, taken in groups of that
many, and the windows are shuffled inside each group: a machine then needs one group at hand, not all the data. Ranks
take turns in the one order (`loader`), so that it does not hang on how many there are.

A mix draws from several sources in the proportion of their weights. Each source goes on from epoch to epoch through
its own passes, in each of which every one of its windows comes once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from megabyte_mm.data.storage.shards import OPEN_SHARDS
from megabyte_mm.data.windows import MIX, ORDER, SHARDS, random_bits, shuffled
from megabyte_mm.windows import Ints

LONGEST_EPOCH = 2**22
"""Windows in an epoch of a mix, at most: where its end lies says little, and its order is kept in memory."""


class WindowRequest(NamedTuple):
    """Windows by source, pass over that source, and number in it; all (B,) int64."""

    sources: Ints
    passes: Ints
    items: Ints


class InOrder:
    """Every window of every source once, source by source, as validation reads them. counts: windows of each."""

    def __init__(self, counts: Sequence[int]) -> None:
        self._ends = np.cumsum(counts, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def at(self, epoch: int, places: Ints) -> WindowRequest:
        """The windows at these places, the same in every epoch: (B,) int64, 0..len - 1."""
        sources = np.searchsorted(self._ends, places, side="right")
        starts = np.append(0, self._ends[:-1])[sources]
        return WindowRequest(sources, np.full_like(places, epoch), places - starts)


class ShuffledEpochs:
    """One source's windows, shuffled, over and over: place n is window n % count of pass n // count.

    counts: (S,) windows in each of its shards, whose windows are numbered through. seed: of this source.
    """

    def __init__(self, counts: Ints, seed: int) -> None:
        self._counts = counts
        self._starts = np.cumsum(self._counts) - self._counts
        self.seed = seed
        self.count = int(self._counts.sum())
        self._layouts: dict[int, tuple[list[Ints], Ints]] = {}
        self._groups: dict[tuple[int, int], Ints] = {}

    def at(self, places: Ints) -> tuple[Ints, Ints]:
        """The pass and the window at each place: (B,) int64 from 0 up -> twice (B,)."""
        passes, within = places // self.count, places % self.count
        items = np.empty_like(places)
        for number in set(passes.tolist()):
            here = np.flatnonzero(passes == number)
            items[here] = self._in_pass(number, within[here])
        return passes, items

    def group_of(self, number: int, item: int) -> int:
        """Which group of shards a window comes with in a pass."""
        shard = int(np.searchsorted(self._starts, item, side="right")) - 1
        return next(i for i, group in enumerate(self._grouped(number)) if shard in group)

    def group(self, number: int, group: int) -> Ints:
        """The shards of a group of a pass."""
        return self._grouped(number)[group]

    def group_after(self, number: int, group: int) -> Ints:
        """The shards of the group that follows on one of a pass, which may be the first of the next pass."""
        groups = self._grouped(number)
        return groups[group + 1] if group + 1 < len(groups) else self._grouped(number + 1)[0]

    def _in_pass(self, number: int, within: Ints) -> Ints:
        if len(self._counts) <= OPEN_SHARDS:
            return self._shuffled_group(number, 0)[within]
        ends = self._layout(number)[1]
        which = np.searchsorted(ends, within, side="right")
        items = np.empty_like(within)
        for group in set(which.tolist()):
            here = which == group
            before = int(ends[group - 1]) if group else 0
            items[here] = self._shuffled_group(number, group)[within[here] - before]
        return items

    def _grouped(self, number: int) -> list[Ints]:
        """The groups of shards of a pass."""
        return self._layout(number)[0]

    def _layout(self, number: int) -> tuple[list[Ints], Ints]:
        """The groups of shards of a pass, and where in it each ends; kept for two passes, whose windows may mix."""
        if number not in self._layouts:
            while len(self._layouts) > 1:
                del self._layouts[next(iter(self._layouts))]
            order = np.arange(len(self._counts))
            if len(order) > OPEN_SHARDS:
                order = np.argsort(random_bits(self.seed, number, SHARDS, order), kind="stable")
            groups = [order[i : i + OPEN_SHARDS] for i in range(0, len(order), OPEN_SHARDS)]
            self._layouts[number] = groups, np.cumsum([self._counts[group].sum() for group in groups], dtype=np.int64)
        return self._layouts[number]

    def _shuffled_group(self, number: int, group: int) -> Ints:
        """The windows of a group of shards in the order of a pass; kept for the group at hand and the one before it."""
        if (number, group) not in self._groups:
            while len(self._groups) > 1:
                del self._groups[next(iter(self._groups))]
            its = self._grouped(number)[group]
            items = np.concatenate([self._starts[shard] + np.arange(self._counts[shard]) for shard in its])
            keys = random_bits(self.seed, number, ORDER, items)
            self._groups[number, group] = items[np.argsort(keys, kind="stable")]
        return self._groups[number, group]


class Shuffled:
    """The order of training over one source, or over several by weight.

    sources: the passes of each. weights: of each, above 0. multiple: windows that all ranks take together at a step; an
    epoch of a mix is made of whole steps, so that no source loses windows at its end. Raises ValueError where a source
    is so light that an epoch would hold none of its windows.
    """

    def __init__(self, sources: Sequence[ShuffledEpochs], weights: Sequence[float], multiple: int, seed: int) -> None:
        self.sources = sources
        self.seed = seed
        total = sum(source.count for source in sources)
        self._shares = np.array([total])
        if len(sources) > 1:
            steps = max(min(total, LONGEST_EPOCH) // multiple, 1)
            self._shares = apportioned(steps * multiple, weights)
        if not self._shares.all():
            raise ValueError(
                f"data.sources: with the weights {', '.join(map(str, weights))} a source would have no window in an "
                f"epoch of {int(self._shares.sum())}: make it heavier, or give more data"
            )
        self._mixed: tuple[int, Ints, Ints] | None = None

    def __len__(self) -> int:
        return int(self._shares.sum())

    def at(self, epoch: int, places: Ints) -> WindowRequest:
        """The windows at these places of an epoch: (B,) int64, 0..len - 1."""
        if len(self.sources) == 1:
            passes, items = self.sources[0].at(epoch * len(self) + places)
            return WindowRequest(np.zeros_like(items), passes, items)
        labels, ranks = self._mix(epoch)
        sources = labels[places]
        passes, items = np.empty_like(places), np.empty_like(places)
        for number, source in enumerate(self.sources):
            here = sources == number
            passes[here], items[here] = source.at(epoch * int(self._shares[number]) + ranks[places[here]])
        return WindowRequest(sources, passes, items)

    def _mix(self, epoch: int) -> tuple[Ints, Ints]:
        """The source at each place of an epoch, and how many windows of that source come before it: twice (len,)."""
        if self._mixed is None or self._mixed[0] != epoch:
            labels = np.repeat(np.arange(len(self._shares)), self._shares)
            # Where the sorted labels go is a permutation, whose inverse counts through each source's places in turn.
            order = shuffled(len(labels), self.seed, epoch, MIX)
            mixed, ranks = labels[order], np.empty_like(labels)
            starts = np.cumsum(self._shares) - self._shares
            by_source = np.argsort(mixed, kind="stable")
            ranks[by_source] = np.arange(len(labels)) - starts[mixed[by_source]]
            self._mixed = epoch, mixed, ranks
        return self._mixed[1], self._mixed[2]


Order = InOrder | Shuffled


def apportioned(total: int, weights: Sequence[float]) -> Ints:
    """Whole numbers that sum to `total` in the proportion of the weights; the largest remainders are rounded up."""
    exact = total * np.array(weights, dtype=np.float64) / sum(weights)
    shares = np.floor(exact).astype(np.int64)
    largest_first = np.argsort(shares - exact, kind="stable")
    shares[largest_first[: total - int(shares.sum())]] += 1
    return shares


def seed_of(seed: int, name: str) -> int:
    """The seed of a source of that name in a mix; of an only source, which has no name, the seed itself."""
    if not name:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8])
