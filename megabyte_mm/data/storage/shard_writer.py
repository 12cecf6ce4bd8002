"""Writes streams into shards, and what became of each run of files beside them, so that it can go on where it ended."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from data_adapters.base import ByteStream
from data_adapters.io import open_durable
from megabyte_mm.data.storage.shards import COLUMNS, INDEX, encode_index, shard_name

SHARD_BYTES = 256 * 2**20

Shard = dict[str, Any]
"""The "name", "bytes" and "sha256" of a shard's file."""


@dataclass
class ShardManifest:
    """What became of a run of files, in their order: the records of those that were read, and the shard of these.

    files: how many, read or left out. shard: None where there is no byte to hold. names, lengths, kinds: of each
    record; a kind is the JSON of modality and format. skipped: {"path", "reason"} of each file that was left out.
    clipped: {"path", "note"} of those that lost range. notes: how many were converted, by kind of conversion.
    """

    files: int = 0
    shard: Shard | None = None
    names: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    clipped: list[dict[str, str]] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """For a file that `from_json` reads."""
        return json.dumps(asdict(self), separators=(",", ":")).encode("ascii")

    @classmethod
    def from_json(cls, content: bytes) -> ShardManifest:
        """Raises ValueError or TypeError for what `to_json` did not write."""
        return cls(**json.loads(content))

    def add(self, name: str, stream: ByteStream, modality: str) -> None:
        """Note a file that was read."""
        self.files += 1
        self.names.append(name)
        self.lengths.append(len(stream.data))
        self.kinds.append(json.dumps({"modality": modality, "format": dict(stream.format)}, sort_keys=True))
        for note in stream.notes:
            kind = re.sub(r"\d+(\.\d+)?", "#", note)
            self.notes[kind] = self.notes.get(kind, 0) + 1
            if "clip" in note:
                self.clipped.append({"path": name, "note": note})

    def skip(self, name: str, reason: str) -> None:
        """Note a file that is left out."""
        self.files += 1
        self.skipped.append({"path": name, "reason": reason})


class ShardWriter:
    """Writes streams into shards in a folder; `finish` gives the index, without which nothing counts.

    shard_bytes: a shard is closed before a record would make it larger; one record alone may be. done: the parts of an
    earlier run, which this one continues. on_part: called for each part once its shard is on the disk.
    """

    def __init__(
        self,
        folder: Path,
        shard_bytes: int = SHARD_BYTES,
        done: Sequence[ShardManifest] = (),
        on_part: Callable[[ShardManifest], None] = lambda part: None,
    ) -> None:
        self.folder = folder
        self.shard_bytes = shard_bytes
        self.parts = list(done)
        self._on_part = on_part
        self._part = ShardManifest()
        self._file: BinaryIO | None = None
        self._filled = 0
        self._hash = hashlib.sha256()

    @property
    def files(self) -> int:
        """How many files there were so far, those of earlier runs too."""
        return sum(part.files for part in self.parts) + self._part.files

    def add(self, name: str, stream: ByteStream, modality: str) -> None:
        """Append a stream as a record."""
        if self._file is not None and self._filled + len(stream.data) > self.shard_bytes:
            self._close_part()
        if self._file is None and len(stream.data):
            number = sum(part.shard is not None for part in self.parts)
            self._file = (self.folder / shard_name(number)).open("wb")
        self._part.add(name, stream, modality)
        if self._file is not None:
            data = np.ascontiguousarray(stream.data).data
            self._file.write(data)
            self._hash.update(data)
            self._filled += len(stream.data)

    def skip(self, name: str, reason: str) -> None:
        """Note a file that is left out."""
        self._part.skip(name, reason)

    def finish(self, **metadata: Any) -> bytes:
        """Write the last shard through to the disk; gives the index's content. `metadata` is kept in it: plain JSON."""
        if self._part.files:
            self._close_part()
        return encode_index(index_of(self.parts) | metadata)

    def close(self) -> None:
        """Release the open shard, finished or not."""
        if self._file is not None:
            self._file.close()

    def _close_part(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            name = Path(self._file.name).name
            self._part.shard = {"name": name, "bytes": self._filled, "sha256": self._hash.hexdigest()}
        self.parts.append(self._part)
        self._file, self._filled, self._hash, self._part = None, 0, hashlib.sha256(), ShardManifest()
        self._on_part(self.parts[-1])


def index_of(parts: Sequence[ShardManifest]) -> dict[str, Any]:
    """The index of all parts together; it depends on the files and the size of a shard alone, not on who read them."""
    columns: dict[str, list[Any]] = {column: [] for column in COLUMNS}
    kinds: dict[str, int] = {}
    shards: list[Shard] = []
    notes: Counter[str] = Counter()
    for part in parts:
        ends = np.cumsum(part.lengths, dtype=np.int64)
        columns["name"] += part.names
        columns["shard"] += [len(shards)] * len(part.names)
        columns["offset"] += (ends - part.lengths).tolist()
        columns["length"] += part.lengths
        columns["kind"] += [kinds.setdefault(kind, len(kinds)) for kind in part.kinds]
        shards += [part.shard] if part.shard else []
        notes.update(part.notes)
    return {
        "shards": shards,
        "kinds": [json.loads(kind) for kind in kinds],
        "records": columns,
        "skipped": [entry for part in parts for entry in part.skipped],
        "clipped": [entry for part in parts for entry in part.clipped],
        "notes": dict(notes),
    }


def write_index(folder: Path, content: bytes) -> None:
    """Write the index, the last of a folder's files, through to the disk."""
    with open_durable(folder / INDEX) as file:
        file.write(content)
