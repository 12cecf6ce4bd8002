"""Windows as batches of symbols: bytes of the records, and END after their last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from megabyte_mm.alphabet import END
from megabyte_mm.data.order import WindowRequest
from megabyte_mm.data.records import Records
from megabyte_mm.data.windows import WindowGrid
from megabyte_mm.windows import Ints


class Batch(NamedTuple):
    """ids: (B, T) int64, 0..256: bytes, and END to the end of the window after a record's last byte.

    condition: (B,) int64, 0 for none. num_context: (B,) int64, the number of a row's first symbols that are context,
    scored in another row; above 0 in sliding windows alone.
    """

    ids: Tensor
    condition: Tensor
    num_context: Tensor


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

    def fill(self, ids: Ints, rows: Ints, records: Ints, starts: Ints) -> None:
        """Set rows of ids (B, window) to the bytes of a record from a start on, and to END after its last."""
        # The same as `alphabet.fill_window` row by row, in a quarter of its time: each symbol is written once.
        read, window = self.records.read, self.window
        for row, record, start in zip(rows.tolist(), records.tolist(), starts.tolist(), strict=True):
            data = read(record, start, start + window)
            ids[row, : len(data)] = data
            ids[row, len(data) :] = END


class WindowDataset(Dataset[Batch]):
    """The windows of one or several sources as batches: `dataset[request]`, all of the same length."""

    def __init__(self, sources: Sequence[Windows]) -> None:
        self.sources = sources

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def __getitem__(self, request: WindowRequest) -> Batch:
        ids = np.empty((len(request.items), self.sources[0].window), dtype=np.int64)
        condition, num_context = np.empty_like(request.items), np.empty_like(request.items)
        for number, windows in enumerate(self.sources):
            rows = np.flatnonzero(request.sources == number)
            if len(rows):
                records, starts, num_context[rows] = windows.locate(request.items[rows], request.epochs[rows])
                condition[rows] = windows.records.conditions[records]
                windows.fill(ids, rows, records, starts)
        return Batch(torch.from_numpy(ids), torch.from_numpy(condition), torch.from_numpy(num_context))
