"""Flat uint8 shards and their index: the form in which every modality is kept on disk.

A folder holds `shard-00000.bin`, ... (records end to end, none split over two shards) and `index.json`, in which the
records are columns rather than objects: a hundred thousand of them load in a fraction of a second.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from data_adapters.base import Bytes, ByteStream, Format

VERSION = 2
SHARD_BYTES = 256 * 2**20
INDEX = "index.json"


class DamagedShardsError(ValueError):
    """A shard folder that cannot be trusted; the message names it and says what is wrong."""


class ShardWriter:
    """Writes streams into the shards of an empty folder; `finish` writes the index, without which nothing counts."""

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self.folder = folder
        self.shard_bytes = shard_bytes
        self._columns: dict[str, list[Any]] = {"name": [], "shard": [], "offset": [], "length": [], "kind": []}
        self._kinds: dict[str, int] = {}
        self._shards: list[dict[str, Any]] = []
        self._file: BinaryIO | None = None
        self._filled = 0
        self._hash = hashlib.sha256()

    def __len__(self) -> int:
        return len(self._columns["name"])

    def add(self, name: str, stream: ByteStream, modality: str) -> None:
        """Append a stream as a record; one larger than a shard gets a shard of its own."""
        if self._file is not None and self._filled + len(stream.data) > self.shard_bytes:
            self._close_shard()
        if self._file is None and len(stream.data):
            self._file = (self.folder / f"shard-{len(self._shards):05d}.bin").open("wb")
        kind = json.dumps({"modality": modality, "format": dict(stream.format)}, sort_keys=True)
        row = (name, len(self._shards), self._filled, len(stream.data), self._kinds.setdefault(kind, len(self._kinds)))
        for column, value in zip(self._columns.values(), row, strict=True):
            column.append(value)
        if self._file is not None:
            data = np.ascontiguousarray(stream.data).data
            self._file.write(data)
            self._hash.update(data)
            self._filled += len(stream.data)

    def finish(self, **about: Any) -> None:
        """Write everything through to the disk, the index last; `about` is kept in it and must be plain JSON."""
        self._close_shard()
        kinds = [json.loads(kind) for kind in self._kinds]
        index = {"version": VERSION, **about, "shards": self._shards, "kinds": kinds, "records": self._columns}
        with (self.folder / INDEX).open("w", encoding="ascii") as file:
            json.dump(index, file, separators=(",", ":"))
            _to_disk(file)

    def close(self) -> None:
        """Release the open shard, finished or not."""
        if self._file is not None:
            self._file.close()

    def _close_shard(self) -> None:
        if self._file is None:
            return
        _to_disk(self._file)
        self._file.close()
        name = Path(self._file.name).name
        self._shards.append({"name": name, "bytes": self._filled, "sha256": self._hash.hexdigest()})
        self._file, self._filled, self._hash = None, 0, hashlib.sha256()


def _to_disk(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


class ShardReader:
    """The records of a shard folder, each read in place from a memory map.

    folder: where `index.json` lies. Raises DamagedShardsError where the index cannot be read, is of another version, or
    disagrees with the sizes of the shards. It pickles as its folder alone, and maps a shard when it is first read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            index = json.loads((folder / INDEX).read_bytes())
            if index["version"] != VERSION:
                raise DamagedShardsError(
                    f"{folder}: shards of version {index['version']}, this program reads {VERSION}"
                )
            records = index.pop("records")
            self.names: tuple[str, ...] = tuple(records["name"])
            columns = [np.array(records[column], dtype=np.int64) for column in ("shard", "offset", "length", "kind")]
            self._shard, self._offset, self.lengths, self._kind = columns
            self.about: Mapping[str, Any] = index
            self._check_sizes()
        except DamagedShardsError:
            raise
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise DamagedShardsError(f"{folder}: {INDEX} cannot be read: {error!r}") from error
        self._maps: dict[int, Bytes] = {}

    def __len__(self) -> int:
        return len(self.names)

    def __reduce__(self) -> tuple[type[ShardReader], tuple[Path]]:
        return type(self), (self.folder,)

    def read(self, row: int, start: int = 0, stop: int | None = None) -> Bytes:
        """The bytes [start, stop) of a record, clipped to it: (n,) uint8, a read-only view of the disk."""
        length = int(self.lengths[row])
        stop = length if stop is None else min(stop, length)
        if start >= stop:
            return np.empty(0, dtype=np.uint8)
        offset = int(self._offset[row])
        return self._map(int(self._shard[row]))[offset + start : offset + stop]

    def format(self, row: int) -> Format:
        """The format of a record's stream."""
        found: Format = self.about["kinds"][self._kind[row]]["format"]
        return found

    def formats(self) -> list[Format]:
        """Every format that a record of at least one byte has."""
        return [self.about["kinds"][kind]["format"] for kind in np.unique(self._kind[self.lengths > 0])]

    def stream(self, row: int) -> ByteStream:
        """A whole record as the adapter read it."""
        return ByteStream(self.read(row), self.format(row))

    def verify(self) -> None:
        """Compare every shard with its sha256. Raises DamagedShardsError naming the first that differs."""
        for shard in self.about["shards"]:
            with (self.folder / shard["name"]).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != shard["sha256"]:
                    raise DamagedShardsError(f"{self.folder / shard['name']}: its content is not what was written")

    def _check_sizes(self) -> None:
        sizes = np.array([shard["bytes"] for shard in self.about["shards"]], dtype=np.int64)
        for shard, size in zip(self.about["shards"], sizes, strict=True):
            if (found := (self.folder / shard["name"]).stat().st_size) != size:
                raise DamagedShardsError(f"{self.folder / shard['name']}: {found} bytes, {size} were written")
        if not len(self.names) == len(self._shard) == len(self._offset) == len(self.lengths) == len(self._kind):
            raise DamagedShardsError(f"{self.folder}: the columns of {INDEX} differ in length")
        filled = self.lengths > 0  # an empty record may point behind the last shard
        ends = self._offset + self.lengths
        if (self.lengths < 0).any() or (ends[filled] > sizes[self._shard[filled]]).any():
            raise DamagedShardsError(f"{self.folder}: {INDEX} names bytes beyond the end of a shard")

    def _map(self, shard: int) -> Bytes:
        if shard not in self._maps:
            path = self.folder / self.about["shards"][shard]["name"]
            # A plain array over the map: slicing the memmap class itself is several times slower.
            self._maps[shard] = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
        return self._maps[shard]
