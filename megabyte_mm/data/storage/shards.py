"""Flat uint8 shards and their index, the form of every modality on a disk or at a URL, and their reader.

A storage holds `shard-00000.bin`, ... (records end to end, none split over two shards) and `index.json`, in which the
records are columns rather than objects: a hundred thousand of them load in a fraction of a second. The index begins
with its own sha256 and holds that of every shard. `shard_writer` writes them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data_adapters.base import Bytes, ByteStream, Format
from megabyte_mm.data.storage.base import LocalStorage, Storage
from megabyte_mm.windows import Ints

VERSION = 3
INDEX = "index.json"
FORMAT = "megabyte-mm shards"
OPEN_SHARDS = 8
"""Shards whose windows training mixes at a time, of more: see `order`."""
COLUMNS = ("name", "shard", "offset", "length", "kind")

_HEAD = b'{"format":"%s","version":%d,"sha256":"%s",'
_HEAD_PATTERN = re.compile(rb'\{"format":"megabyte-mm shards","version":(\d{1,9}),"sha256":"([0-9a-f]{64})",')
_HEAD_BYTES = 256
_MAX_FETCHES = 5
"""Fetches of a shard that another process evicts before it is opened."""
_DAMAGE = (OSError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError)
"""Errors that reading a damaged index raises."""


class DamagedShardsError(ValueError):
    """A damaged shard folder; the message names it and the damage."""


def encode_index(index: Mapping[str, Any]) -> bytes:
    """An index as the content of its file: plain JSON, led by the format's name, version and the sha256 of the rest."""
    rest = json.dumps(index, separators=(",", ":")).encode("ascii")[1:]
    return _HEAD % (FORMAT.encode(), VERSION, hashlib.sha256(rest).hexdigest().encode()) + rest


def is_index(content: bytes) -> bool:
    """True for the beginning of an index of this format, of any version."""
    return _HEAD_PATTERN.match(content[:_HEAD_BYTES]) is not None


def decode_index(content: bytes, name: str) -> tuple[dict[str, Any], str]:
    """The index in a file's content, and its sha256. Raises DamagedShardsError where it is not as it was written."""
    head = _HEAD_PATTERN.match(content)
    if head is None:
        raise DamagedShardsError(f"{name}: {INDEX} cannot be read: it is not an index of {FORMAT}")
    if int(head[1]) != VERSION:
        raise DamagedShardsError(
            f"{name}: shards of version {int(head[1])}, this program reads {VERSION}; prepare the files again"
        )
    rest = content[head.end() :]
    if hashlib.sha256(rest).hexdigest().encode() != head[2]:
        raise DamagedShardsError(f"{name}: {INDEX} cannot be read: its content is not what was written")
    index: dict[str, Any] = json.loads(b"{" + rest)
    return index, head[2].decode()


def shard_name(number: int) -> str:
    """The file of a shard."""
    return f"shard-{number:05d}.bin"


def _is_plain(metadata: Mapping[str, Any]) -> bool:
    """True for metadata of the types that `shard_writer` writes."""
    skipped, clipped, notes = metadata["skipped"], metadata["clipped"], metadata["notes"]
    adapter = metadata.get("adapter", {"name": "", "settings": {}})
    return (
        all(set(map(type, entry.values())) <= {str} and {"path", "reason"} <= set(entry) for entry in skipped)
        and all(set(map(type, entry.values())) <= {str} and {"path", "note"} <= set(entry) for entry in clipped)
        and all(type(note) is str and type(count) is int for note, count in notes.items())
        and type(adapter["name"]) is str
        and type(adapter["settings"]) is dict
        and type(metadata.get("unused", 0)) is int
        and type(metadata.get("source", "")) is str
        and all(type(key) is str for key in metadata.get("keys", {}).values())
    )


class ShardReader:
    """The records of a shard folder, each read through a memory map.

    storage: a local folder, or any other `Storage`. Raises DamagedShardsError where the index cannot be read, is of
    another version, or disagrees with the sizes of the shards. It pickles as its storage alone, and maps a shard when
    it is first read; of remote shards, only as many stay mapped as are read at a time.
    """

    def __init__(self, storage: Path | Storage) -> None:
        self.storage: Storage = LocalStorage(storage) if isinstance(storage, Path) else storage
        try:
            index, self.key = decode_index(self.storage.read(INDEX), str(self.storage))
            records = index.pop("records")
            self.names: tuple[str, ...] = tuple(records["name"])
            columns = [np.array(records[column], dtype=np.int64) for column in COLUMNS[1:]]
            self._shard, self._offset, self.lengths, self._kind = columns
            self.metadata: Mapping[str, Any] = index
            self._check()
        except DamagedShardsError:
            raise
        except _DAMAGE as error:
            raise DamagedShardsError(f"{self.storage}: {INDEX} cannot be read: {error!r}") from error
        self._maps: OrderedDict[int, Bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self.names)

    def __reduce__(self) -> tuple[type[ShardReader], tuple[Storage]]:
        return type(self), (self.storage,)

    def read(self, row: int, start: int = 0, stop: int | None = None) -> Bytes:
        """The bytes [start, stop) of a record, clipped to it: (n,) uint8, a read-only view of the disk.

        Of a remote shard, raises DamagedShardsError where its content is not what was written, OSError where it cannot
        be fetched.
        """
        length = int(self.lengths[row])
        stop = length if stop is None else min(stop, length)
        if start >= stop:
            return np.empty(0, dtype=np.uint8)
        offset = int(self._offset[row])
        return self._map(int(self._shard[row]))[offset + start : offset + stop]

    def format(self, row: int) -> Format:
        """The format of a record's stream."""
        format: Format = self.metadata["kinds"][self._kind[row]]["format"]
        return format

    def formats(self) -> list[Format]:
        """Every format that a record of at least one byte has."""
        return [self.metadata["kinds"][kind]["format"] for kind in np.unique(self._kind[self.lengths > 0])]

    def stream(self, row: int) -> ByteStream:
        """A whole record as the adapter read it."""
        return ByteStream(self.read(row), self.format(row))

    def shards_of(self, rows: Ints) -> Ints:
        """The number of the shard that holds each record: (R,) -> (R,)."""
        shards: Ints = self._shard[rows]
        return shards

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """What each record shares with the other parts of its record; its name where records have one part."""
        keys: Mapping[str, str] = self.metadata.get("keys", {})
        return tuple(keys.get(name, name) for name in self.names)

    @property
    def notes(self) -> dict[str, int]:
        """Converted files by kind of conversion, whose numbers differ from file to file and are elided."""
        return {re.sub(r"#(x#)?", "...", note): count for note, count in self.metadata["notes"].items()}

    @property
    def group_bytes(self) -> int:
        """Bytes of the shards that training reads at a time, at most: of the largest OPEN_SHARDS."""
        return sum(sorted((int(shard["bytes"]) for shard in self.metadata["shards"]), reverse=True)[:OPEN_SHARDS])

    def fetch(self, shard: int) -> None:
        """Fetch a remote shard before it is read; nothing for a local one."""
        self.storage.fetch(self.metadata["shards"][shard])

    def verify(self) -> None:
        """Compare every shard with its sha256. Raises DamagedShardsError naming the first that differs."""
        for shard in self.metadata["shards"]:
            with self.storage.fetch(shard).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != shard["sha256"]:
                    raise DamagedShardsError(f"{self.storage}/{shard['name']}: its content is not what was written")

    def _check(self) -> None:
        """Raises DamagedShardsError where the index contradicts itself or the files."""
        shards: Sequence[Mapping[str, Any]] = self.metadata["shards"]
        sizes, present = np.array([shard["bytes"] for shard in shards], dtype=np.int64), self.storage.sizes()
        for number, (shard, size) in enumerate(zip(shards, sizes, strict=True)):
            name = shard["name"]
            # Another name could lead out of the folder, or to a device.
            if name != shard_name(number) or not re.fullmatch(r"[0-9a-f]{64}", shard["sha256"]):
                raise DamagedShardsError(f"{self.storage}: {INDEX} names a shard {name!r}")
            if name not in present:
                raise DamagedShardsError(f"{self.storage}/{name}: is missing, {size} bytes were written")
            if present[name] != size:
                raise DamagedShardsError(f"{self.storage}/{name}: {present[name]} bytes, {size} were written")
        if not len(self.names) == len(self._shard) == len(self._offset) == len(self.lengths) == len(self._kind):
            raise DamagedShardsError(f"{self.storage}: the columns of {INDEX} differ in length")
        filled = self.lengths > 0  # an empty record may point behind the last shard
        low = min(column.min(initial=0) for column in (self._shard, self._offset, self.lengths, self._kind))
        ends = self._offset + self.lengths
        if low < 0 or (ends[filled] < 0).any() or (ends[filled] > sizes[self._shard[filled]]).any():
            raise DamagedShardsError(f"{self.storage}: {INDEX} names bytes beyond the end of a shard")
        kinds = [kind["format"] for kind in self.metadata["kinds"]]
        named = all(isinstance(name, str) for name in self.names) and len(set(self.names)) == len(self.names)
        plain = named and all(isinstance(kind, dict) for kind in kinds)
        if self._kind.max(initial=-1) >= len(kinds) or not plain or not _is_plain(self.metadata):
            raise DamagedShardsError(f"{self.storage}: {INDEX} has invalid record names, formats or metadata")

    def _map(self, shard: int) -> Bytes:
        if shard in self._maps:
            if self.storage.is_remote:
                self._maps.move_to_end(shard)
            return self._maps[shard]
        while self.storage.is_remote and len(self._maps) > OPEN_SHARDS:
            self._maps.popitem(last=False)
        self._maps[shard] = self._mapped(shard)
        return self._maps[shard]

    def _mapped(self, shard: int) -> Bytes:
        for _ in range(_MAX_FETCHES):
            path = self._fetched(shard)
            try:
                # A plain array over the map: slicing the memmap class itself is several times slower.
                return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
            except FileNotFoundError:
                if not self.storage.is_remote:
                    raise  # else another process has just evicted it
        raise OSError(f"{self.storage}: shards leave the cache faster than they are read: make data.shard_cache larger")

    def _fetched(self, shard: int) -> Path:
        try:
            return self.storage.fetch(self.metadata["shards"][shard])
        except ValueError as error:
            raise DamagedShardsError(str(error)) from error
