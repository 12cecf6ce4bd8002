"""Which window of which record is item i of an epoch: pure functions of (seed, epoch, item), the same everywhere.

A record of n bytes has ceil(n / window) windows. Validation takes them edge to edge, or overlapping with a part of each
that is context only (`megabyte_mm.windows`): either way every byte is scored once.
Training moves each by up to half a window, another way in each epoch, so that every byte meets every place in a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from data_adapters.base import Adapter
from megabyte_mm.windows import Ints, ScoringWindows

DEFAULT_WINDOW = 2048
ORDER, JITTER, SHARDS, MIX = 0, 1, 2, 3
"""Purposes of random bits."""


def resolve_window(adapter: Adapter, window: int | None, unit: int | None = None) -> int:
    """The window length in bytes: the adapter's fixed stream length, else `window`, else about 2048.

    unit: bytes that stay together in all files (`records.unit_of`); left out, as far as the adapter alone tells. Raises
    ValueError where `window` disagrees with the adapter's length or is no multiple of the unit.
    """
    unit = unit or adapter.unit
    if adapter.length is not None:
        if window not in (None, adapter.length):
            raise ValueError(
                f"data.window {window}: files of the {adapter.name} adapter are streams of {adapter.length} bytes and "
                "one window each; leave data.window out, or change the adapter's size"
            )
        return adapter.length
    if window is None:
        return max(DEFAULT_WINDOW // unit, 1) * unit
    if window < 1 or window % unit:
        nearest = max(round(window / unit), 1) * unit
        why = "" if unit == adapter.unit else " to hold whole units of every file"
        raise ValueError(f"data.window {window} must be a positive multiple of {unit} bytes{why}, such as {nearest}")
    return window


@dataclass(frozen=True)
class WindowGrid:
    """The windows of records, numbered through record by record; a record of no bytes has none.

    lengths: (R,) bytes of each record. window: bytes, a multiple of unit. unit: bytes that stay together. sliding:
    whether `fixed` windows overlap; there are more of them then, and `jittered` has no meaning.
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
        """The windows of each record: (R,)."""
        return np.diff(self._ends, prepend=0)

    def fixed(self, items: Ints) -> tuple[Ints, Ints, Ints]:
        """Every byte scored once: (B,) items -> records, first bytes, and leading bytes that are context only."""
        records, places, _ = self._locate(items)
        return records, *self._scoring.locate(self.lengths[records], places)

    def jittered(self, items: Ints, seed: int, epoch: int | Ints) -> tuple[Ints, Ints]:
        """Edge-to-edge windows, each moved by whole units, uniformly within half a window to either side.

        (B,) items, and the epoch of all or of each -> (B,) records and (B,) first bytes. None starts before its record,
        and the last of a record moves only to the left.
        """
        records, places, is_last = self._locate(items)
        reach = self.window // 2 // self.unit
        bits = random_bits(seed, epoch, JITTER, items)
        either = (bits % np.uint64(2 * reach + 1)).astype(np.int64) - reach
        left = -(bits % np.uint64(reach + 1)).astype(np.int64)
        starts = places * self.window + np.where(is_last, left, either) * self.unit
        return records, np.maximum(starts, 0)

    def _locate(self, items: Ints) -> tuple[Ints, Ints, NDArray[np.bool_]]:
        records = np.searchsorted(self._ends, items, side="right")
        ends = self._ends[records]
        counts = self._scoring.num_windows(self.lengths[records])
        return records, items - (ends - counts), items == ends - 1


def shuffled(count: int, seed: int, epoch: int, purpose: int = ORDER) -> Ints:
    """A permutation of range(count), the same for the same seed and epoch on every machine and version of numpy."""
    return np.argsort(random_bits(seed, epoch, purpose, np.arange(count)), kind="stable")


def random_bits(seed: int, epoch: int | Ints, purpose: int, items: Ints) -> NDArray[np.uint64]:
    """64 random bits for each item: splitmix64 (Steele et al. 2014) of seed, epoch, purpose and item in turn.

    Numpy's generators may change their streams between versions, and a run is to be resumed under any.
    """
    state = np.zeros(1, dtype=np.uint64)
    for part in (seed, epoch, purpose):
        state = _mixed(state + (part.astype(np.uint64) if isinstance(part, np.ndarray) else np.uint64(part % 2**64)))
    return _mixed(state + items.astype(np.uint64))


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
