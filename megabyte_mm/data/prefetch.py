"""Fetches the remote shards that training reads next, while it reads those already fetched."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread

import numpy as np

from megabyte_mm.data.dataset import RowSource
from megabyte_mm.data.order import Order, SourceOrder, TrainingOrder, WindowRequest
from megabyte_mm.data.storage.remote import RemoteStorage
from megabyte_mm.data.storage.shards import ShardReader
from megabyte_mm.windows import Ints


@dataclass(frozen=True)
class RemoteSource:
    """A source whose shards are fetched. number: in requests. shards: the reader's numbers for those of `epochs`."""

    number: int
    epochs: SourceOrder
    reader: ShardReader
    shards: Ints


class ShardPrefetcher:
    """Fetches the group of shards of each noted request, and the group after it, in a thread.

    The shards go into the cache that readers use, in this process or another. Errors are left to the readers, which
    will meet and raise them. sources: those to prefetch; empty for local ones, for an order without groups, and where
    the cache has no room for two groups of each.
    """

    def __init__(self, sources: Sequence[RowSource], order: Order) -> None:
        self.sources = _remote_sources(sources, order) if isinstance(order, TrainingOrder) else []
        self._groups: dict[int, tuple[int, int]] = {}
        self._queue: SimpleQueue[tuple[ShardReader, int] | None] = SimpleQueue()
        self._closed = False
        if self.sources:
            # A daemon, so that no download holds up the end of the process.
            Thread(target=self._fetch_all, name="prefetch", daemon=True).start()

    def note(self, request: WindowRequest) -> None:
        """Begin to fetch where a source has come to another group."""
        for source in self.sources:
            rows = np.flatnonzero(request.sources == source.number)
            if not len(rows):
                continue
            epoch, item = int(request.epochs[rows[-1]]), int(request.items[rows[-1]])
            group = source.epochs.group_of(epoch, item)
            if self._groups.get(source.number) != (epoch, group):
                self._groups[source.number] = epoch, group
                for shard in (*source.epochs.group(epoch, group), *source.epochs.group_after(epoch, group)):
                    self._queue.put((source.reader, int(source.shards[shard])))

    def close(self) -> None:
        """Start no more fetches."""
        self._closed = True
        self._queue.put(None)

    def _fetch_all(self) -> None:
        while (item := self._queue.get()) is not None and not self._closed:
            reader, shard = item
            with suppress(OSError, ValueError):
                reader.fetch(shard)


def _remote_sources(sources: Sequence[RowSource], order: TrainingOrder) -> list[RemoteSource]:
    remote, needed, limit = [], 0, 0
    for number, (windows, epochs) in enumerate(zip(sources, order.sources, strict=True)):
        reader = windows.reader
        if isinstance(reader.storage, RemoteStorage):
            remote.append(RemoteSource(number, epochs, reader, windows.per_shard()[0]))
            needed += 2 * reader.group_bytes
            limit = reader.storage.cache.limit
    return remote if needed <= limit else []
