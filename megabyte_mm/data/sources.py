"""From a path to an open source: its records, split, from files that are encoded now, or from shards made before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_adapters import registry
from data_adapters.base import Adapter
from megabyte_mm.data.digests import file_digests
from megabyte_mm.data.files import find_files, is_url, local_path
from megabyte_mm.data.records import Splits, split_records, unit_of
from megabyte_mm.data.storage.base import LocalStorage, Storage
from megabyte_mm.data.storage.cache import cache_folder, load_or_encode
from megabyte_mm.data.storage.prepare import UNFINISHED
from megabyte_mm.data.storage.remote import ShardCache, open_storage
from megabyte_mm.data.storage.shards import INDEX, OPEN_SHARDS, DamagedShardsError, ShardReader, is_index, shard_name
from megabyte_mm.data.windows import resolve_window


@dataclass(frozen=True)
class Source:
    """One of several kinds of data that are mixed, named by its modality.

    Args:
        path: Where it lies, as `data.path`; left out, what the adapter reads of `data.path`, or its part of that name
            where that was prepared.
        adapter: What reads the files; chosen by their suffixes if left out.
        weight: Its share of the training windows, in proportion to the other sources' weights.
    """

    path: str = ""
    adapter: Adapter | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class CacheConfig:
    """Where this machine keeps what was encoded or fetched. limit: bytes of fetched shards, at most."""

    home: Path
    limit: int

    @classmethod
    def at(cls, cache_dir: str | None, gibibytes: float) -> CacheConfig:
        """In the cache folder."""
        return cls(cache_folder(cache_dir), int(gibibytes * 2**30))

    @property
    def shards(self) -> ShardCache:
        """The cache of shards from afar."""
        return ShardCache(self.home / "shards", self.limit)


@dataclass(frozen=True)
class OpenSource:
    """A source whose records are at hand.

    name: of the modality in a mix, "" where there is no other source. unit: bytes that stay together (a pixel, a frame
    of sound, one byte); where files differ, a multiple of each.
    """

    name: str
    path: str
    adapter: Adapter
    reader: ShardReader
    unit: int
    weight: float = 1.0

    def splits(self, window: int, val_share: float, classes: bool, condition: int = 0) -> Splits:
        """The records that train, validate and test; condition: that of all of them, 0 for their own.

        Raises ValueError as `records.split_records` does.
        """
        splits = split_records(self.reader, self.adapter, window, val_share, classes)
        return splits.with_condition(condition) if condition else splits


def adapter_at(path: str) -> Adapter | None:
    """What reads the files of a path, as far as that is known without encoding any: not of data that lie far away.

    Raises FileNotFoundError and ValueError for a path that cannot be used.
    """
    if is_url(path) or not path:
        return None
    folder = LocalStorage(local_path(path))
    if is_prepared(folder):
        return _same_adapter(ShardReader(folder), None, path)
    return find_files(path).adapter


def open_source(source: Source, name: str, keeping: CacheConfig) -> OpenSource:
    """The records of a source. Raises as `open_reader` does, by the name of the source's own fields."""
    try:
        reader, adapter = open_reader(source.path, source.adapter, keeping)
    except (FileNotFoundError, ValueError) as error:
        if not name or isinstance(error, DamagedShardsError):
            raise
        told = str(error).replace("data.adapter", f"data.sources.{name}.adapter")
        raise type(error)(told.replace("data.path", f"data.sources.{name}.path")) from error
    try:
        unit = unit_of(reader, adapter)
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        told = f"{reader.storage}: {INDEX} holds formats that are none of the {adapter.name} adapter"
        raise DamagedShardsError(told) from error
    if unit < 1:
        raise DamagedShardsError(f"{reader.storage}: {INDEX} holds formats of no bytes")
    return OpenSource(name, source.path, adapter, reader, unit, source.weight)


def open_reader(path: str, adapter: Adapter | None, keeping: CacheConfig) -> tuple[ShardReader, Adapter]:
    """The records of a path, of shards that were prepared or of files that are encoded now, and their adapter.

    Raises FileNotFoundError and ValueError for a path, files or settings that cannot be used, OSError where a far place
    cannot be reached.
    """
    place = open_storage(path, keeping.shards)
    if is_prepared(place):
        try:
            reader = ShardReader(place)
            _check_copy(reader, keeping)
        except DamagedShardsError as error:
            raise DamagedShardsError(f"{error}: copy the data again, or delete them and prepare them anew") from error
        return reader, _same_adapter(reader, adapter, path)
    if is_url(path):
        raise FileNotFoundError(
            f"data.path {path}: no prepared data there (no {INDEX}); make it with megabyte-mm prepare --out {path}"
        )
    files = find_files(path, adapter)
    registry.check_name(type(files.adapter))
    return load_or_encode(files, str(keeping.home)), files.adapter


def located(name: str, source: Source, path: str, keeping: CacheConfig) -> Source:
    """A source of a mix with its path: its own, else the part of `data.path` that was prepared for it, else that."""
    if source.path:
        return source
    if not path:
        raise ValueError(f"data.sources.{name}.path is empty, and so is data.path: give one of the two")
    part = f"{path.rstrip('/')}/{name}"
    return replace(source, path=part if is_prepared(open_storage(part, keeping.shards)) or is_url(path) else path)


def is_prepared(place: Storage) -> bool:
    """Whether shards lie there. Raises ValueError where their making was not finished, or their index is lost."""
    if isinstance(place, LocalStorage) and not place.folder.is_dir():
        return False
    try:
        if is_index(place.read(INDEX, limit=256)):
            return True
    except (FileNotFoundError, PermissionError):
        pass
    names = place.sizes()
    if UNFINISHED in names:
        raise ValueError(f"{place}: was not prepared to the end: run megabyte-mm prepare again, it goes on from there")
    if shard_name(0) in names:
        raise DamagedShardsError(
            f"{place}: holds shards, but no sound {INDEX}: prepare the files anew, or copy it again"
        )
    return False


def _same_adapter(reader: ShardReader, asked: Adapter | None, path: str) -> Adapter:
    """The adapter that the data were prepared with. Raises ValueError where another one is asked for."""
    spec: dict[str, Any] | None = reader.metadata.get("adapter")
    if spec is None:
        raise DamagedShardsError(f"{reader.storage}: {INDEX} does not say what read the files")
    if asked is None:
        return registry.build(spec["name"], spec["settings"])
    if registry.spec(asked) != spec:
        raise ValueError(
            f"data.path {path} was prepared with the adapter {spec['name']} {spec['settings']}, and data.adapter is "
            f"{asked.name} {asked.settings()}: let the two agree, or prepare the files anew"
        )
    return asked


def _check_copy(reader: ShardReader, keeping: CacheConfig) -> None:
    """Compare prepared shards on this disk with their sha256, once: somebody may have copied or moved them.

    Raises DamagedShardsError. Shards from afar are checked when they are fetched.
    """
    if reader.storage.is_remote:
        return
    shards = reader.metadata["shards"]
    paths = [reader.storage.fetch(shard) for shard in shards]
    memo = keeping.home / "digests" / f"shards-{reader.key[:16]}.json"
    for path, shard, digest in zip(paths, shards, file_digests(paths, memo), strict=True):
        if digest.sha256 != shard["sha256"]:
            raise DamagedShardsError(f"{path}: its content is not what was written")


def room_to_fetch_ahead(sources: Sequence[OpenSource], limit: int) -> bool:
    """Whether a cache of `limit` bytes has room for the shards of all far sources that are read at a time, twice over.

    Raises ValueError where it has not even room for these.
    """
    readers = [source.reader for source in sources if source.reader.storage.is_remote]
    need = sum(map(_bytes_at_hand, readers))
    if need > limit:
        raise ValueError(
            f"data.shard_cache {limit / 2**30:.3g} GiB is too small for "
            f"{', '.join(str(reader.storage) for reader in readers)}, of which {need / 2**30:.3g} GiB are read at a "
            "time: make it larger, or prepare smaller shards"
        )
    return 2 * need <= limit


def _bytes_at_hand(reader: ShardReader) -> int:
    return sum(sorted((int(shard["bytes"]) for shard in reader.metadata["shards"]), reverse=True)[:OPEN_SHARDS])


def check_sources(sources: Mapping[str, Source] | None, adapter: Adapter | None, classes: bool) -> None:
    """Raise ValueError where the settings of a mix contradict each other."""
    if sources is None:
        return
    if not sources:
        raise ValueError("data.sources is empty: name at least one source, or leave it out")
    if adapter is not None:
        raise ValueError("data.adapter is set, and data.sources too: say in each source what reads it")
    if classes:
        raise ValueError("data.classes is set, and data.sources too: the conditions of a mix are its sources")
    for name, source in sources.items():
        if name in ("", "none") or not name.replace("-", "_").isidentifier():
            raise ValueError(f"data.sources: {name!r} cannot name a source: take a word such as image, and not none")
        if not 0 < source.weight < math.inf:
            raise ValueError(f"data.sources.{name}.weight {source.weight} must be a number above 0")


def window_of(adapters: Sequence[Adapter], window: int | None, units: Sequence[int]) -> int:
    """The length of the windows of all sources together.

    Of one source, as `resolve_window` tells; of several, `window`, or the longest of their fixed streams. Raises
    ValueError where it cuts a unit of one of them, or the fixed streams of one do not fit.
    """
    if len(adapters) == 1:
        return resolve_window(adapters[0], window, units[0])
    fixed = [adapter.length for adapter in adapters if adapter.length is not None]
    unit = math.lcm(*units)
    chosen = window or max(fixed, default=0) or resolve_window(adapters[0], None, unit)
    if chosen < 1 or chosen % unit:
        nearest = max(round(chosen / unit), 1) * unit
        raise ValueError(
            f"data.window {chosen} must be a positive multiple of {unit} bytes to hold whole units of every source "
            f"({', '.join(f'{adapter.name} {its}' for adapter, its in zip(adapters, units, strict=True))}), "
            f"such as {nearest}"
        )
    for adapter in adapters:
        if (adapter.length or 0) > chosen:
            raise ValueError(
                f"data.window {chosen}: streams of the {adapter.name} adapter have {adapter.length} bytes, and must "
                f"fit into one window: set data.window to {adapter.length} or more, or change the adapter's size"
            )
    return chosen


def patch_size_of(adapters: Sequence[Adapter]) -> int | None:
    """The patch size that the byte layouts ask for, if any. Raises ValueError where two ask for different ones."""
    asked = {adapter.patch_size: adapter for adapter in adapters if adapter.patch_size is not None}
    if len(asked) > 1:
        told = " and ".join(f"{adapter.name} of {size}" for size, adapter in sorted(asked.items()))
        raise ValueError(f"data.sources: one model has one patch size, and the adapters ask for {told} bytes")
    return next(iter(asked), None)
