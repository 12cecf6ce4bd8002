"""The position of window i of an epoch in its record: pure functions of (seed, epoch, i), the same on every machine.

A record of n bytes has ceil(n / window) windows. Validation takes them edge to edge, or overlapping with a part of each
that is context only (`megabyte_mm.windows`): every byte is scored once. Training moves each by up to half a window,
differently in each epoch, so that every byte occurs at every position of a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from megabyte_mm.windows import Ints, ScoringWindows

ORDER, JITTER, SHARDS, MIX = 0, 1, 2, 3
"""Purposes of random bits."""


@dataclass(frozen=True)
class WindowGrid:
    """The windows of records, numbered consecutively; a record of no bytes has none.

    lengths: (R,) bytes of each record. window: bytes, a multiple of unit. unit: bytes that stay together. sliding: let
    the windows of `locate` overlap; there are more of them then, and `jitter` has no meaning.
    """

    lengths: Ints
    window: int
    unit: int = 1
    sliding: bool = False

    @cached_property
    def _scoring(self) -> ScoringWindows:
        return ScoringWindows(self.window, self.unit, self.sliding)

    @cached_property
    def _ends(self) -> Ints:
        return np.cumsum(self._scoring.num_windows(self.lengths))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def counts(self) -> Ints:
        """Windows of each record: (R,)."""
        return np.diff(self._ends, prepend=0)

    def locate(self, items: Ints) -> tuple[Ints, Ints, Ints]:
        """Windows that score every byte once: (B,) items -> records, first bytes, and numbers of context bytes."""
        records, numbers, _ = self._numbers(items)
        return records, *self._scoring.locate(self.lengths[records], numbers)

    def jitter(self, items: Ints, seed: int, epoch: int | Ints) -> tuple[Ints, Ints]:
        """Edge-to-edge windows, each moved by whole units, uniformly within half a window to either side.

        (B,) items, and the epoch of all or of each -> (B,) records and (B,) first bytes. None starts before its record,
        and the last of a record moves only to the left.
        """
        records, numbers, is_last = self._numbers(items)
        reach = self.window // 2 // self.unit
        bits = random_bits(seed, epoch, JITTER, items)
        either_side = (bits % np.uint64(2 * reach + 1)).astype(np.int64) - reach
        left = -(bits % np.uint64(reach + 1)).astype(np.int64)
        starts = numbers * self.window + np.where(is_last, left, either_side) * self.unit
        return records, np.maximum(starts, 0)

    def _numbers(self, items: Ints) -> tuple[Ints, Ints, NDArray[np.bool_]]:
        """Items -> records, numbers of the windows in them, and whether each is its record's last."""
        records = np.searchsorted(self._ends, items, side="right")
        ends = self._ends[records]
        counts = self._scoring.num_windows(self.lengths[records])
        return records, items - (ends - counts), items == ends - 1


def random_bits(seed: int, epoch: int | Ints, purpose: int, items: Ints) -> NDArray[np.uint64]:
    """64 random bits for each item: splitmix64 (Steele et al. 2014) of seed, epoch, purpose and item in turn.

    Numpy's generators may change their streams between versions, and a run must resume under any.
    """
    state = np.zeros(1, dtype=np.uint64)
    for value in (seed, epoch, purpose):
        state = _mix(state + (value.astype(np.uint64) if isinstance(value, np.ndarray) else np.uint64(value % 2**64)))
    return _mix(state + items.astype(np.uint64))


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
