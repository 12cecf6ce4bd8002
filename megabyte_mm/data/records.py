"""The records of each split: records of a shard folder, or spans of them, with their conditions."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from data_adapters import printable
from data_adapters.base import Adapter, Bytes, ByteStream
from megabyte_mm.data.encode import first_reasons
from megabyte_mm.data.splits import classes_of, conditions_of, named_splits, split_rows
from megabyte_mm.data.storage.shards import ShardReader
from megabyte_mm.errors import FieldError
from megabyte_mm.windows import Ints

Skipped = list[dict[str, str]]
Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Records:
    """Spans of a reader's records, one each: bytes [starts, starts + lengths) of record `rows`; all (R,) int64.

    conditions: (R,) int64, 0 for none.
    """

    reader: ShardReader
    rows: Ints
    starts: Ints
    lengths: Ints
    conditions: Ints

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, record: int) -> str:
        """The file that the record was read from, relative to the root of the data."""
        return self.reader.names[int(self.rows[record])]

    def read(self, record: int, start: int = 0, stop: int | None = None) -> Bytes:
        """The bytes [start, stop) of the record, clipped to it: (n,) uint8, read-only."""
        first, length = int(self.starts[record]), int(self.lengths[record])
        return self.reader.read(
            int(self.rows[record]), first + start, first + min(length, length if stop is None else stop)
        )

    def stream(self, record: int) -> ByteStream:
        """The whole record with its format, as an adapter writes it."""
        return ByteStream(self.read(record), self.reader.format(int(self.rows[record])))

    def evenly_spaced(self, count: int) -> list[int]:
        """At most `count` of the records that hold bytes, evenly spaced among them."""
        filled = np.flatnonzero(self.lengths)
        count = min(count, len(filled))
        chosen: list[int] = filled[np.arange(count) * len(filled) // max(count, 1)].tolist()
        return chosen

    def digest(self) -> bytes:
        """A hash of the selected bytes and their conditions, for a known reader's folder."""
        columns = np.stack([self.rows, self.starts, self.lengths, self.conditions])
        return hashlib.sha256(columns.tobytes()).digest()


@dataclass(frozen=True)
class Splits:
    """The records that train, validate and test; conditions[i] is the name of condition i."""

    train: Records
    val: Records
    test: Records
    conditions: tuple[str, ...]
    skipped: Skipped

    def with_condition(self, number: int) -> Splits:
        """The same with that condition on every record."""
        train, val, test = (
            replace(records, conditions=np.full_like(records.rows, number))
            for records in (self.train, self.val, self.test)
        )
        return replace(self, train=train, val=val, test=test)


def split_records(
    reader: ShardReader,
    adapter: Adapter,
    window: int,
    val_share: float = 0.05,
    classes: bool = False,
    keys: Mapping[Split, frozenset[str]] | None = None,
    group: str | None = None,
) -> Splits:
    """The splits of a shard folder, as in `splits.split_rows`; if only one record is left to
    train on, its end is held out for validation.

    keys: of the records of each split, where the source is a part of records; a split may then be empty. group: as of
    `splits.split_rows`.

    Records of no bytes are left out and listed, and so are those of a `single_window` adapter that exceed `window`.
    Raises FieldError where nothing is left of a split, or where one record is all that trains and cannot be split.
    """
    usable, skipped = _usable(reader, adapter, window)
    names = [reader.keys[row] for row in usable]
    if len(names) == 1 and classes:
        raise FieldError("classes", f"is set, but {names[0]} is the only file that can be used")
    if keys is None:
        rows = split_rows(names, val_share, group)
    else:
        rows = {split: [row for row, name in enumerate(names) if name in wanted] for split, wanted in keys.items()}
    labels = classes_of(names)
    conditions = conditions_of(labels, rows["train"]) if classes else ("none",)
    numbers = {name: number for number, name in enumerate(conditions)}
    ids = np.array([numbers.get(label or "none", 0) for label in labels], dtype=np.int64)
    train, val, test = (_whole(reader, usable[chosen], ids[chosen]) for chosen in rows.values())
    if not len(val) and keys is None:
        train, val = _split_by_position(train, adapter, val_share)
    return Splits(train, val, test if len(test) else val, conditions, skipped)


def _usable(reader: ShardReader, adapter: Adapter, window: int) -> tuple[Ints, Skipped]:
    too_long = window if adapter.single_window else math.inf
    fits = (reader.lengths > 0) & (reader.lengths <= too_long)
    usable, others = np.flatnonzero(fits), np.flatnonzero(~fits).tolist()
    skipped: Skipped = [{"path": reader.names[i], "reason": _unusable(int(reader.lengths[i]), window)} for i in others]
    skipped = sorted([*reader.metadata["skipped"], *skipped], key=lambda entry: entry["path"])
    if not len(usable):
        raise FieldError("path", f": none of the {len(skipped)} files can be used: {first_reasons(skipped)}")
    # Without this, losing all of val would split train again.
    named = named_splits([*reader.names, *(entry["path"] for entry in skipped)])
    if lost := sorted(set(named.values()) - {named.get(reader.names[row]) for row in usable}):
        reasons = [entry for entry in skipped if named.get(entry["path"]) == lost[0]]
        raise FieldError("path", f": none of the files of {lost[0]} can be used: {first_reasons(reasons)}")
    return usable, skipped


def _unusable(length: int, window: int) -> str:
    if not length:
        return "holds no bytes"
    return f"its {length} bytes do not fit into data.window {window}: set data.window to {length} or more"


def _whole(reader: ShardReader, rows: Ints, conditions: Ints) -> Records:
    return Records(reader, rows, np.zeros_like(rows), reader.lengths[rows], conditions)


def _split_by_position(only: Records, adapter: Adapter, val_share: float) -> tuple[Records, Records]:
    name, stream = only.name(0), only.stream(0)
    if adapter.single_window:
        raise FieldError(
            "path",
            f": {name} is the only file to train on, and one {adapter.name} cannot both train and "
            "validate: give two files or more",
        )
    length = len(stream.data)
    cut = len(adapter.cut_to_units(stream.data, int(length * (1 - val_share)), adapter.unit_in(stream.format)))
    if not 0 < cut < length:
        raise FieldError(
            "path",
            f": {name} is the only file to train on, and its {length} bytes are too few to hold out "
            f"data.val_share {val_share} of them: give more data",
        )
    train = replace(only, lengths=np.array([cut]))
    return train, replace(only, starts=train.lengths, lengths=only.lengths - cut)


def warn_skipped(paths: str, skipped: Skipped, log_dir: str | None) -> None:
    """Warn of files that are left out, and list them in skipped_files.txt of the log folder, if there is one."""
    if log_dir:
        Path(log_dir).mkdir(parents=True, exist_ok=True)
        lines = [f"{printable(entry['path'])}\t{printable(entry['reason'])}\n" for entry in skipped]
        Path(log_dir, "skipped_files.txt").write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
    where = f" (all in {log_dir}/skipped_files.txt)" if log_dir else ""
    warnings.warn(f"skipped {len(skipped)} files of {paths}: {first_reasons(skipped)}{where}", stacklevel=2)
