"""Records of several parts: what readers hold under the same key, joined, and their rows of symbols."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_adapters.base import Bytes, ByteStream
from megabyte_mm.alphabet import fill_parts
from megabyte_mm.data.dataset import Batch
from megabyte_mm.data.records import Skipped, Split
from megabyte_mm.data.splits import split_rows
from megabyte_mm.data.storage.shards import ShardReader
from megabyte_mm.errors import FieldError, errors_inside
from megabyte_mm.windows import Ints


@dataclass(frozen=True)
class Joined:
    """Records of several parts: part p of record r is record `rows[p][r]` of `readers[p]`, all (R,) int64."""

    readers: tuple[ShardReader, ...]
    rows: tuple[Ints, ...]

    def __len__(self) -> int:
        return len(self.rows[0])

    def key(self, record: int) -> str:
        """What the parts of a record share."""
        return self.readers[0].keys[int(self.rows[0][record])]

    def stream(self, part: int, record: int) -> ByteStream:
        """A part with its format, as its adapter writes it."""
        return self.readers[part].stream(int(self.rows[part][record]))

    def read(self, part: int, record: int) -> Bytes:
        """The bytes of a part: (n,) uint8, read-only."""
        return self.readers[part].read(int(self.rows[part][record]))

    def take(self, records: Sequence[int] | Ints) -> Joined:
        """Some of the records."""
        chosen = np.asarray(records, dtype=np.int64)
        return replace(self, rows=tuple(rows[chosen] for rows in self.rows))

    def evenly_spaced(self, count: int) -> list[int]:
        """At most `count` of the records, evenly spaced among them."""
        count = min(count, len(self))
        chosen: list[int] = (np.arange(count) * len(self) // max(count, 1)).tolist()
        return chosen


def join(readers: Mapping[str, ShardReader], rooms: Mapping[str, int]) -> tuple[Joined, Skipped]:
    """The records of which every part is there and fits into its room in bytes, and why the others are left out.

    Parts that occur once belong to each of several that one part has: five captions of a picture are five records.
    Raises FieldError where two parts have several, and where no record is complete.
    """
    by_key = {name: _rows_by_key(reader) for name, reader in readers.items()}
    unread = {name: _unread_by_key(reader) for name, reader in readers.items()}
    keys = sorted(set().union(*by_key.values()))
    skipped: Skipped = []
    records: list[tuple[int, ...]] = []
    for key in keys:
        if missing := [name for name, rows in by_key.items() if key not in rows]:
            broken = [unread[name][key] for name in missing if key in unread[name]]
            skipped += broken or [{"path": key, "reason": f"has no {' and no '.join(missing)}"}]
            continue
        records += _records(key, {name: rows[key] for name, rows in by_key.items()})
    columns = np.array(sorted(records), dtype=np.int64).reshape(-1, len(readers))
    fits = np.ones(len(columns), dtype=bool)
    for part, (name, reader) in enumerate(readers.items()):
        lengths = reader.lengths[columns[:, part]]
        for row in np.flatnonzero(fits & ((lengths > rooms[name]) | (lengths == 0))).tolist():
            reason = f"its {lengths[row]} bytes do not fit into data.sources.{name}.window {rooms[name]}"
            skipped.append({"path": reader.names[columns[row, part]], "reason": reason if lengths[row] else "is empty"})
            fits[row] = False
    if not fits.any():
        reasons = "; ".join(f"{entry['path']} {entry['reason']}" for entry in skipped[:3])
        raise FieldError("data.path", f": no record has all of {', '.join(readers)}: {reasons}")
    complete = columns[fits]
    return Joined(tuple(readers.values()), tuple(complete.T.copy())), skipped


def _rows_by_key(reader: ShardReader) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = defaultdict(list)
    for row, key in enumerate(reader.keys):
        rows[key].append(row)
    return rows


def _unread_by_key(reader: ShardReader) -> dict[str, dict[str, str]]:
    """The entries of files that could not be read, by the keys of their records."""
    keys: Mapping[str, str] = reader.metadata.get("keys", {})
    return {keys[entry["path"]]: entry for entry in reader.metadata["skipped"] if entry["path"] in keys}


def _records(key: str, rows: Mapping[str, Sequence[int]]) -> Iterator[tuple[int, ...]]:
    several = [name for name, each in rows.items() if len(each) > 1]
    if len(several) > 1:
        names = " and of ".join(several)
        raise FieldError("data.path", f": {key} has several of {names}, and nothing says which belong together")
    for number in range(max(map(len, rows.values()))):
        yield tuple(each[number if len(each) > 1 else 0] for each in rows.values())


def split_keys(
    readers: Iterable[ShardReader], val_share: float, group: str | None = None
) -> dict[Split, frozenset[str]]:
    """The keys of each split, as of `splits.split_rows`, of all files of all parts.

    Those that cannot be read, or lack another part, are among them, so that no split depends on what is complete.
    """
    keys: set[str] = set()
    for reader in readers:
        known: Mapping[str, str] = reader.metadata.get("keys", {})
        keys.update(reader.keys, known.values())
    unique = sorted(keys)
    if len(unique) < 2:
        raise FieldError("data.path", f": {unique[0]} is the only record, and one cannot both train and validate")
    with errors_inside("data"):
        rows = split_rows(unique, val_share, group)
    splits: tuple[Split, ...] = ("train", "val", "test")
    return {split: frozenset(unique[row] for row in rows[split]) for split in splits}


def split_joined(joined: Joined, names: Sequence[str], keys: Mapping[Split, frozenset[str]]) -> dict[Split, Joined]:
    """The records of each split. names: of the parts. Raises FieldError for a split without a record."""
    of_record = [joined.key(record) for record in range(len(joined))]
    splits: dict[Split, Joined] = {}
    for split, wanted in keys.items():
        splits[split] = joined.take([record for record, key in enumerate(of_record) if key in wanted])
        if not len(splits[split]):
            raise FieldError("data.path", f": no record of {split} has all of {', '.join(names)}")
    return splits


@dataclass(frozen=True)
class PartRoom:
    """The place of a part in rows: symbols in whole patches, and of these the bytes that are its own.

    fixed_length: every part fills its bytes, so that no END follows.
    """

    symbols: int
    bytes: int
    fixed_length: bool


@dataclass(frozen=True)
class JoinedWindows:
    """The rows of joined records in one order of their parts; see `dataset.Windows`.

    order: the numbers of the parts in `records`, in the order of a row. rooms: of the parts of a row, in that order.
    """

    records: Joined
    order: tuple[int, ...]
    rooms: tuple[PartRoom, ...]
    condition: int
    limit: int | None = None

    @property
    def window(self) -> int:
        """Symbols of a row."""
        return sum(room.symbols for room in self.rooms)

    @property
    def reader(self) -> ShardReader:
        """That of the first part, whose shards are read in the order of training."""
        return self.records.readers[0]

    def __len__(self) -> int:
        return min(len(self.records), self.limit) if self.limit is not None else len(self.records)

    def per_shard(self) -> tuple[Ints, Ints]:
        """The shards of the first part that hold records, in their order, and the number of records in each."""
        shards, counts = np.unique(self.reader.shards_of(self.records.rows[0]), return_counts=True)
        return shards, counts

    def fill(self, batch: Batch, rows: Ints, items: Ints, epochs: Ints) -> None:
        """Set rows of a batch to records: each part's bytes from the start of its room on, then END."""
        if len(self) < len(self.records):
            items = items * len(self.records) // len(self)
        ids, condition, scored = (field.numpy() for field in batch)
        condition[rows] = self.condition
        sizes = [room.symbols for room in self.rooms]
        for row, record in zip(rows.tolist(), items.tolist(), strict=True):
            parts = [self.records.read(part, record) for part in self.order]
            fill_parts(ids[row], parts, sizes)
            start = 0
            for data, room in zip(parts, self.rooms, strict=True):
                scored[row, start : start + len(data) + (len(data) < room.bytes and not room.fixed_length)] = True
                start += room.symbols
