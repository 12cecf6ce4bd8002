"""Windows as batches of symbols: bytes of the records, and END after their last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from megabyte_mm.alphabet import END
from megabyte_mm.data.order import WindowRequest
from megabyte_mm.data.records import Records
from megabyte_mm.data.storage.shards import ShardReader
from megabyte_mm.data.windows import WindowGrid
from megabyte_mm.windows import Ints


class Batch(NamedTuple):
    """ids: (B, T) int64, 0..256: bytes, and END to the end of the row after a record's last byte.

    condition: (B,) int64, 0 for none; on the CPU, wherever the others are. scored: (B, T) bool, the symbols that count:
    bytes and the first END behind them, but neither the fill nor context that another row scores.
    """

    ids: Tensor
    condition: Tensor
    scored: Tensor


@dataclass(frozen=True)
class Windows:
    """The windows of one source's records.

    unit: bytes that stay together, of which `window` is a multiple. jitter: the seed of the moves of training windows;
    None leaves them edge to edge, or overlapping if `sliding`. limit: number of windows, spread evenly; None for all.
    """

    records: Records
    window: int
    unit: int
    jitter: int | None = None
    sliding: bool = False
    limit: int | None = None

    @cached_property
    def grid(self) -> WindowGrid:
        """The positions of all windows."""
        return WindowGrid(self.records.lengths, self.window, self.unit, self.sliding)

    @property
    def reader(self) -> ShardReader:
        """The shards that hold the records."""
        return self.records.reader

    def __len__(self) -> int:
        return min(len(self.grid), self.limit) if self.limit is not None else len(self.grid)

    def per_shard(self) -> tuple[Ints, Ints]:
        """The shards that hold windows, in their order, and the number of windows in each."""
        shards, firsts = np.unique(self.records.reader.shards_of(self.records.rows), return_index=True)
        return shards, np.add.reduceat(self.grid.counts(), firsts)

    def locate(self, items: Ints, epochs: Ints) -> tuple[Ints, Ints, Ints]:
        """Items of the given epochs -> records, first bytes, and numbers of leading bytes that are context only."""
        if self.jitter is not None:
            return *self.grid.jitter(items, self.jitter, epochs), np.zeros_like(items)
        if len(self) < len(self.grid):
            items = items * len(self.grid) // len(self)
        return self.grid.locate(items)

    def fill(self, batch: Batch, rows: Ints, items: Ints, epochs: Ints) -> None:
        """Set rows of a batch to items of the given epochs: a record's bytes from a start on, END after its last."""
        # The same as `alphabet.fill_window` row by row, in a quarter of its time: each symbol is written once.
        records, starts, context = self.locate(items, epochs)
        ids, condition, scored = (field.numpy() for field in batch)
        condition[rows] = self.records.conditions[records]
        read, window = self.records.read, self.window
        where = zip(*(each.tolist() for each in (rows, records, starts, context)), strict=True)
        for row, record, start, num_context in where:
            data = read(record, start, start + window)
            ids[row, : len(data)] = data
            ids[row, len(data) :] = END
            # A window that is full has no END, nor has the rest of a longer row.
            scored[row, num_context : len(data) + (len(data) < window)] = True


class RowSource(Protocol):
    """What a dataset takes rows from: windows of one source, or records of several parts."""

    @property
    def window(self) -> int:
        """Symbols of a row, at most."""

    @property
    def reader(self) -> ShardReader:
        """Whose shards are read in the order of training."""

    def __len__(self) -> int: ...

    def per_shard(self) -> tuple[Ints, Ints]:
        """The reader's shards that hold rows, in their order, and the number of rows in each."""

    def fill(self, batch: Batch, rows: Ints, items: Ints, epochs: Ints) -> None:
        """Set rows of a batch to items of the given epochs."""


class WindowDataset(Dataset[Batch]):
    """The windows of one or several sources as batches: `dataset[request]`, all rows as long as the longest window."""

    def __init__(self, sources: Sequence[RowSource]) -> None:
        self.sources = sources
        self.length = max(source.window for source in sources)

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def __getitem__(self, request: WindowRequest) -> Batch:
        shape = len(request.items), self.length
        ids, scored = torch.empty(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.bool)
        batch = Batch(ids, torch.empty(shape[0], dtype=torch.int64), scored)
        for number, windows in enumerate(self.sources):
            rows = np.flatnonzero(request.sources == number)
            if len(rows):
                windows.fill(batch, rows, request.items[rows], request.epochs[rows])
        return batch
