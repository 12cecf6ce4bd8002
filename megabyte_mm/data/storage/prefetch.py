"""Fetches the shards that training comes to next while it reads those at hand."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread

import numpy as np

from megabyte_mm.data.order import ShuffledEpochs, WindowRequest
from megabyte_mm.data.storage.shards import ShardReader
from megabyte_mm.windows import Ints


@dataclass(frozen=True)
class RemoteSource:
    """A source whose shards are fetched. number: in requests. shards: the reader's numbers for those of `passes`."""

    number: int
    passes: ShuffledEpochs
    reader: ShardReader
    shards: Ints


class ShardPrefetcher:
    """Told of every request that is handed out, it fetches the group of shards that it is of, and the one after that.

    It fetches in a thread of its own, into the cache that readers look into, in this process or another. What goes
    wrong is left to them, who will meet and tell it.
    """

    def __init__(self, sources: Sequence[RemoteSource]) -> None:
        self._sources = sources
        self._told: dict[int, tuple[int, int]] = {}
        self._waiting: SimpleQueue[tuple[ShardReader, int] | None] = SimpleQueue()
        self._closed = False
        # A daemon, so that no download holds up the end of the process.
        Thread(target=self._fetch_all, name="fetch-ahead", daemon=True).start()

    def note(self, request: WindowRequest) -> None:
        """Begin to fetch where a source has come to another group."""
        for source in self._sources:
            its = np.flatnonzero(request.sources == source.number)
            if not len(its):
                continue
            number, item = int(request.passes[its[-1]]), int(request.items[its[-1]])
            group = source.passes.group_of(number, item)
            if self._told.get(source.number) != (number, group):
                self._told[source.number] = number, group
                for shard in (*source.passes.group(number, group), *source.passes.group_after(number, group)):
                    self._waiting.put((source.reader, int(source.shards[shard])))

    def close(self) -> None:
        """Begin nothing more."""
        self._closed = True
        self._waiting.put(None)

    def _fetch_all(self) -> None:
        while (item := self._waiting.get()) is not None and not self._closed:
            reader, shard = item
            with suppress(OSError, ValueError):
                reader.fetch(shard)
