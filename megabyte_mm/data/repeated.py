"""Validation records that hold the same bytes as a training record: their bits per byte say nothing of new files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from megabyte_mm.data.records import Records

_MOST_RECORDS = 500_000
"""Of training records that are looked at, which takes some seconds; of a larger set they are evenly spaced."""
_BEGINNING = 1024
"""Bytes that are compared first: those of a record in one or two pages of the disk."""


@dataclass(frozen=True)
class Repeated:
    """Validation records that are in the training set too, with one of them and its twin by their names."""

    count: int
    val: str
    train: str


def find_repeated(train: Records, val: Records) -> Repeated | None:
    """The validation records whose bytes are those of a training record; None where there are none.

    Remote data are not looked at, since all of them would be fetched for it.
    """
    if train.reader.storage.is_remote or val.reader.storage.is_remote:
        return None
    wanted: dict[tuple[int, bytes], list[int]] = {}
    for record in np.flatnonzero(val.lengths).tolist():
        wanted.setdefault(_beginning(val, record), []).append(record)
    lengths = set(val.lengths.tolist())
    repeated: dict[int, int] = {}
    for record in train.evenly_spaced(_MOST_RECORDS):
        if int(train.lengths[record]) not in lengths:
            continue
        for twin in wanted.get(_beginning(train, record), ()):
            if twin not in repeated and np.array_equal(val.read(twin), train.read(record)):
                repeated[twin] = record
    if not repeated:
        return None
    first = min(repeated)
    return Repeated(len(repeated), val.name(first), train.name(repeated[first]))


def _beginning(records: Records, record: int) -> tuple[int, bytes]:
    return int(records.lengths[record]), records.read(record, 0, _BEGINNING).tobytes()
