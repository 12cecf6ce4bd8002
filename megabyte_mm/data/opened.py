"""The data of a run, opened: the records of all sources, their splits, and the rows that models read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from data_adapters import registry
from megabyte_mm.checkpoint import Bundle, Modality
from megabyte_mm.data.collect import Paths
from megabyte_mm.data.dataset import RowSource, Windows
from megabyte_mm.data.geometry import Geometry
from megabyte_mm.data.joined import Joined, JoinedWindows, PartRoom, join, split_joined, split_keys
from megabyte_mm.data.order import source_seed
from megabyte_mm.data.orders import PartOrder
from megabyte_mm.data.records import Records, Skipped, Split, Splits
from megabyte_mm.data.sources import OpenSource, Source, open_parts, open_sources
from megabyte_mm.data.storage.encoded_cache import CacheConfig
from megabyte_mm.models import ByteModel


@dataclass(frozen=True)
class DataSettings:
    """What decides the data of a run.

    sources: by name, "" for an only one. orders: of the parts of rows; in_parts: true where they are parts of records.
    path, window, val_share, classes: as of `ByteData`. group: that of records of several parts.
    """

    path: Paths
    sources: Mapping[str, Source]
    orders: Sequence[PartOrder]
    in_parts: bool
    window: int | None
    val_share: float
    classes: bool
    group: str | None = None

    @property
    def order_names(self) -> list[tuple[str, ...]]:
        """The parts of each order; empty where every source is by itself."""
        return [order.parts for order in self.orders] if self.in_parts else []

    def expected_geometry(self) -> Geometry:
        """The geometry as far as the settings determine it, without any data. Raises FieldError as `Geometry.of`."""
        adapters = {name: source.adapter for name, source in self.sources.items()}
        return Geometry.of(adapters, self.window, None, self.sources, self.order_names)

    def open(self, cache: CacheConfig) -> OpenData:
        """Open the data, encoding what is not in the cache. Raises FieldError for settings that cannot be used."""
        if all(source.adapter is not None for source in self.sources.values()):
            self.expected_geometry()  # most mistakes show before files are encoded
        sources = (open_parts if self.in_parts else open_sources)(self.sources, self.path, cache)
        adapters = {source.name: source.adapter for source in sources}
        units, longest = [source.unit for source in sources], [int(source.reader.lengths.max()) for source in sources]
        geometry = Geometry.of(adapters, self.window, units, self.sources, self.order_names, longest)
        keys = split_keys([source.reader for source in sources], self.val_share, self.group) if self.in_parts else None
        joined, incomplete = self._join(sources, geometry, keys) if keys else ({}, [])
        splits = tuple(
            source.splits(
                geometry.window_of(number),
                self.val_share,
                self.classes,
                _condition(geometry, source.name),
                keys,
                self.sources[source.name].group,
            )
            for number, source in enumerate(sources)
        )
        if "" in adapters:
            geometry = replace(geometry, conditions=splits[0].conditions)
        return OpenData(self, sources, splits, joined, incomplete, geometry)

    def _join(
        self, sources: Sequence[OpenSource], geometry: Geometry, keys: Mapping[Split, frozenset[str]]
    ) -> tuple[dict[tuple[str, ...], dict[Split, Joined]], Skipped]:
        """The records of several parts in their splits, by the names of the parts, and those left out."""
        rooms = {source.name: geometry.window_of(number) for number, source in enumerate(sources)}
        readers = {source.name: source.reader for source in sorted(sources, key=lambda source: source.name)}
        joined_by_names: dict[tuple[str, ...], dict[Split, Joined]] = {}
        incomplete: Skipped = []
        # The same records whatever the order of their parts.
        for names in {tuple(sorted(order.parts)): None for order in self.orders if len(order.parts) > 1}:
            joined, skipped = join({name: readers[name] for name in names}, rooms)
            joined_by_names[names] = split_joined(joined, names, keys)
            incomplete += skipped
        return joined_by_names, incomplete


def _condition(geometry: Geometry, source: str) -> int:
    """That of a source whose rows have no other part; 0 for none."""
    return geometry.conditions.index(source) if source in geometry.conditions else 0


@dataclass(frozen=True)
class OpenData:
    """Open data; geometry: what a model must fit. joined, incomplete: as of `DataSettings`."""

    settings: DataSettings
    sources: tuple[OpenSource, ...]
    splits: tuple[Splits, ...]
    joined: Mapping[tuple[str, ...], Mapping[Split, Joined]]
    incomplete: Skipped
    geometry: Geometry

    def records(self, split: Split) -> tuple[Records, ...]:
        """The records of "train", "val" or "test" of every source; test is val where there are no test files."""
        return tuple(getattr(splits, split) for splits in self.splits)

    def windowed(self, split: Split) -> Iterator[tuple[OpenSource, Records, int]]:
        """Each source with its records and the bytes of its windows."""
        windows = map(self.geometry.window_of, range(len(self.sources)))
        return zip(self.sources, self.records(split), windows, strict=True)

    def rows(
        self, split: Split, seed: int | None = None, sliding: bool = False, limit: int | None = None
    ) -> list[RowSource]:
        """The rows of each order. seed: of the moves of training windows; None leaves them where they are."""
        by_name = {source.name: (source, records, window) for source, records, window in self.windowed(split)}
        rows: list[RowSource] = []
        for order in self.settings.orders:
            if len(order.parts) > 1:
                rows.append(self._joined_rows(order, split, limit))
                continue
            source, records, window = by_name[order.parts[0]]
            jitter = None if seed is None else source_seed(seed, order.name)
            rows.append(Windows(records, window, source.unit, jitter, sliding, limit))
        return rows

    def _joined_rows(self, order: PartOrder, split: Split, limit: int | None) -> JoinedWindows:
        names = tuple(sorted(order.parts))
        sources = [source.name for source in self.sources]
        rooms = [self._room(sources.index(name)) for name in order.parts]
        return JoinedWindows(
            self.joined[names][split],
            tuple(map(names.index, order.parts)),
            tuple(rooms),
            self.geometry.conditions.index(order.name),
            limit,
        )

    def _room(self, number: int) -> PartRoom:
        """The place of a source's files in rows of several parts."""
        assert self.geometry.parts is not None
        fixed_length = self.sources[number].adapter.length is not None
        return PartRoom(self.geometry.parts[number].max_len, self.geometry.window_of(number), fixed_length)

    def measured_parts(self) -> dict[str, tuple[int, slice]]:
        """By its name in logs, each part of each order: its condition, and its symbols in a row. Empty for one source.

        The only part of an order is called as its source, others as in text+image/image.
        """
        found: dict[str, tuple[int, slice]] = {}
        for order in self.settings.orders:
            if not order.name:
                continue
            condition, start = self.geometry.conditions.index(order.name), 0
            rooms = self.geometry.rooms_of(condition)
            for name, room in zip(order.parts, rooms, strict=True):
                label = name if len(order.parts) == 1 else f"{order.name}/{name}"
                found[label] = condition, slice(start, start + room)
                start += room
        return found

    @property
    def validation_records(self) -> dict[tuple[str, ...], Joined]:
        """The validation records of each order of several parts; their parts are those of the order, in its order."""
        found = {}
        for order in (order.parts for order in self.settings.orders if len(order.parts) > 1):
            names = tuple(sorted(order))
            joined, numbers = self.joined[names]["val"], [names.index(name) for name in order]
            found[order] = Joined(
                tuple(joined.readers[number] for number in numbers), tuple(joined.rows[number] for number in numbers)
            )
        return found

    @property
    def skipped(self) -> Skipped:
        """The files that could not be used, as {"path", "reason"}."""
        entries = [*(entry for splits in self.splits for entry in splits.skipped), *self.incomplete]
        return list({entry["path"]: entry for entry in entries}.values())

    @property
    def fingerprint(self) -> str:
        """Changes with any of the files, their encoding, the split, the classes, the window and the mix."""
        parts = [f"{self.geometry.window}"]
        parts += [f"{window}" for window in self.geometry.windows]
        parts += [f"{order.name} {order.weight}" for order in self.settings.orders if self.settings.in_parts]
        for source, splits in zip(self.sources, self.splits, strict=True):
            parts += [source.name, str(source.weight), source.reader.key, str(source.unit), splits.train.digest().hex()]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]

    def spec(self) -> dict[str, Any]:
        """The data settings that generation needs, as plain values for a checkpoint."""
        shared: dict[str, Any] = {"window": self.geometry.window, "conditions": list(self.geometry.conditions)}
        if unlearned := self._unlearned():
            shared["unlearned"] = {name: list(parts) for name, parts in unlearned.items()}
        streams: dict[str, dict[str, Any]] = {
            source.name: {
                "adapter": registry.spec(source.adapter),
                "fixed_length": source.adapter.length == self.geometry.window_of(number),
                **({"window": self.geometry.windows[number]} if self.geometry.windows else {}),
                **({"files": files} if (files := self.settings.sources[source.name].files) else {}),
            }
            for number, source in enumerate(self.sources)
        }
        return streams.get("", {"sources": streams}) | shared

    def bundle(self, model: ByteModel) -> Bundle:
        """A model of these data with what is needed to use it on files."""
        spec = self.spec()
        streams = spec.get("sources", {"": {"fixed_length": spec.get("fixed_length")}})
        modalities = {
            source.name: Modality(
                source.adapter,
                streams[source.name]["fixed_length"],
                streams[source.name].get("window"),
                streams[source.name].get("files", {}),
            )
            for source in self.sources
        }
        return Bundle(model, modalities, self.geometry.conditions, self.geometry.window, unlearned=self._unlearned())

    def _unlearned(self) -> dict[str, tuple[str, ...]]:
        """By the names of orders, the parts of weight 0 in the loss."""
        orders = {order.name: order.unlearned for order in self.settings.orders}
        return {name: parts for name, parts in orders.items() if parts}
