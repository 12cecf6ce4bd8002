"""Opening what `prepare` wrote: complete, undamaged, and read by the adapter that the run asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_adapters import registry
from data_adapters.base import Adapter
from megabyte_mm.data.digests import file_digests
from megabyte_mm.data.storage.base import LocalStorage, Storage
from megabyte_mm.data.storage.prepare import UNFINISHED
from megabyte_mm.data.storage.shards import INDEX, DamagedShardsError, ShardReader, is_index, shard_name
from megabyte_mm.errors import FieldError


def is_prepared(storage: Storage) -> bool:
    """True for a folder of shards with an index. Raises ValueError for an unfinished one, or one without its index."""
    if isinstance(storage, LocalStorage) and not storage.folder.is_dir():
        return False
    try:
        if is_index(storage.read(INDEX, limit=256)):
            return True
    except (FileNotFoundError, PermissionError):
        pass
    names = storage.sizes()
    if UNFINISHED in names:
        raise ValueError(f"{storage}: was not prepared to the end: run megabyte-mm prepare again to finish it")
    if shard_name(0) in names:
        raise DamagedShardsError(
            f"{storage}: holds shards, but no sound {INDEX}: prepare the files again, or copy it again"
        )
    return False


def open_prepared(storage: Storage, cache_folder: Path) -> ShardReader:
    """The records of prepared data, whose local shards are checked. Raises DamagedShardsError."""
    try:
        reader = ShardReader(storage)
        if not storage.is_remote:
            _check_copy(reader, cache_folder)
    except DamagedShardsError as error:
        raise DamagedShardsError(f"{error}: copy the data again, or delete them and prepare them again") from error
    return reader


def adapter_of(reader: ShardReader, expected: Adapter | None = None) -> Adapter:
    """The adapter that the data were prepared with. Raises FieldError where another one is expected."""
    spec: dict[str, Any] | None = reader.metadata.get("adapter")
    if spec is None:
        raise DamagedShardsError(f"{reader.storage}: {INDEX} does not name the adapter that read the files")
    if expected is None:
        return registry.build(spec["name"], spec["settings"])
    if registry.spec(expected) != spec:
        raise FieldError(
            "adapter",
            f"is {expected.name} {expected.settings()}, but {reader.storage} was prepared with the adapter "
            f"{spec['name']} {spec['settings']}: make the two agree, or prepare the files again",
        )
    return expected


def check_cache_size(readers: Sequence[ShardReader], limit: int) -> None:
    """Raise FieldError where the remote shards that are read at a time exceed the cache of `limit` bytes."""
    remote = [reader for reader in readers if reader.storage.is_remote]
    needed = sum(reader.group_bytes for reader in remote)
    if needed > limit:
        names = ", ".join(str(reader.storage) for reader in remote)
        raise FieldError(
            "data.shard_cache",
            f"{limit / 2**30:.3g} GiB is too small for {names}, of which {needed / 2**30:.3g} GiB are read at a time: "
            "make it larger, or prepare smaller shards",
        )


def _check_copy(reader: ShardReader, cache_folder: Path) -> None:
    """Compare local shards with their sha256, once: they may have been copied. Remote ones are checked when fetched."""
    shards = reader.metadata["shards"]
    paths = [reader.storage.fetch(shard) for shard in shards]
    memo = cache_folder / "digests" / f"shards-{reader.key[:16]}.json"
    for path, shard, digest in zip(paths, shards, file_digests(paths, memo), strict=True):
        if digest.sha256 != shard["sha256"]:
            raise DamagedShardsError(f"{path}: its content is not what was written")
