"""Writes streams into shards, with a manifest of the files in each, from which an interrupted run continues."""

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

_NUMBER = re.compile(r"(?<![a-wyzA-Z.\d])\d+(?:\.\d+)?(?!\d|-bit| bits)")
"""What differs between notes of one kind; neither the 3 of MP3 nor the 16 of 16 bits."""
SHARD_BYTES = 256 * 2**20

Shard = dict[str, Any]
"""The "name", "bytes" and "sha256" of a shard's file."""


@dataclass
class ShardManifest:
    """The outcome of consecutive files: the records of those that were read, and the shard that holds them.

    files: number of files, read or left out. shard: None for no bytes at all. names, lengths, kinds: of each record;
    a kind is the JSON of modality and format. skipped: {"path", "reason"} of each file that was left out. clipped:
    {"path", "note"} of those that lost range. notes: number of converted files by kind, with # for the kind's numbers.
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
        """Content of a file for `from_json`."""
        return json.dumps(asdict(self), separators=(",", ":")).encode("ascii")

    @classmethod
    def from_json(cls, content: bytes) -> ShardManifest:
        """Raises ValueError or TypeError for content that `to_json` did not write."""
        return cls(**json.loads(content))

    def add(self, name: str, stream: ByteStream, modality: str) -> None:
        """Add a file that was read."""
        self.files += 1
        self.names.append(name)
        self.lengths.append(len(stream.data))
        self.kinds.append(json.dumps({"modality": modality, "format": dict(stream.format)}, sort_keys=True))
        for note in stream.notes:
            kind = _NUMBER.sub("#", note)
            self.notes[kind] = self.notes.get(kind, 0) + 1
            if "clip" in note:
                self.clipped.append({"path": name, "note": note})

    def skip(self, name: str, reason: str) -> None:
        """Add a file that is left out."""
        self.files += 1
        self.skipped.append({"path": name, "reason": reason})


class ShardWriter:
    """Writes streams into shards in a folder; they are complete only with the index that `finish` returns.

    shard_bytes: a shard is closed before a record would make it larger; one record alone may be. done: the manifests
    of an earlier run, which this one continues. on_manifest: called for each one whose shard is on the disk.
    """

    def __init__(
        self,
        folder: Path,
        shard_bytes: int = SHARD_BYTES,
        done: Sequence[ShardManifest] = (),
        on_manifest: Callable[[ShardManifest], None] = lambda manifest: None,
    ) -> None:
        self.folder = folder
        self.shard_bytes = shard_bytes
        self.manifests = list(done)
        self._on_manifest = on_manifest
        self._manifest = ShardManifest()
        self._file: BinaryIO | None = None
        self._filled = 0
        self._hash = hashlib.sha256()

    @property
    def files(self) -> int:
        """Number of files so far, those of earlier runs included."""
        return sum(manifest.files for manifest in self.manifests) + self._manifest.files

    def add(self, name: str, stream: ByteStream, modality: str) -> None:
        """Append a stream as a record."""
        if self._file is not None and self._filled + len(stream.data) > self.shard_bytes:
            self._close_shard()
        if self._file is None and len(stream.data):
            number = sum(manifest.shard is not None for manifest in self.manifests)
            self._file = (self.folder / shard_name(number)).open("wb")
        self._manifest.add(name, stream, modality)
        if self._file is not None:
            data = np.ascontiguousarray(stream.data).data
            self._file.write(data)
            self._hash.update(data)
            self._filled += len(stream.data)

    def skip(self, name: str, reason: str) -> None:
        """Add a file that is left out."""
        self._manifest.skip(name, reason)

    def finish(self, **metadata: Any) -> bytes:
        """Flush the last shard to the disk and return the index's content, which includes `metadata`, plain JSON."""
        if self._manifest.files:
            self._close_shard()
        return encode_index(index_of(self.manifests) | metadata)

    def close(self) -> None:
        """Close the open shard's file, finished or not."""
        if self._file is not None:
            self._file.close()

    def _close_shard(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            name = Path(self._file.name).name
            self._manifest.shard = {"name": name, "bytes": self._filled, "sha256": self._hash.hexdigest()}
        self.manifests.append(self._manifest)
        self._file, self._filled, self._hash, self._manifest = None, 0, hashlib.sha256(), ShardManifest()
        self._on_manifest(self.manifests[-1])


def index_of(manifests: Sequence[ShardManifest]) -> dict[str, Any]:
    """The index of all shards; it depends on the files and the size of a shard alone, not on the processes."""
    columns: dict[str, list[Any]] = {column: [] for column in COLUMNS}
    kinds: dict[str, int] = {}
    shards: list[Shard] = []
    notes: Counter[str] = Counter()
    for manifest in manifests:
        ends = np.cumsum(manifest.lengths, dtype=np.int64)
        columns["name"] += manifest.names
        columns["shard"] += [len(shards)] * len(manifest.names)
        columns["offset"] += (ends - manifest.lengths).tolist()
        columns["length"] += manifest.lengths
        columns["kind"] += [kinds.setdefault(kind, len(kinds)) for kind in manifest.kinds]
        shards += [manifest.shard] if manifest.shard else []
        notes.update(manifest.notes)
    return {
        "shards": shards,
        "kinds": [json.loads(kind) for kind in kinds],
        "records": columns,
        "skipped": [entry for manifest in manifests for entry in manifest.skipped],
        "clipped": [entry for manifest in manifests for entry in manifest.clipped],
        "notes": dict(notes),
    }


def write_index(folder: Path, content: bytes) -> None:
    """Write the index, a folder's last file, through to the disk."""
    with open_durable(folder / INDEX) as file:
        file.write(content)
