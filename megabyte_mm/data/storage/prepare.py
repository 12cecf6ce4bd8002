"""Encodes files once, into shards from which many machines train; a killed run continues when it is started again.

Every shard is written as a whole, and after it a manifest of the files that it covers (part-*.json). The index comes
last, and the manifests are then deleted. Shards depend on the files, in the order of their names, alone: an interrupted
run and an undisturbed one, with one process or many, end with the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from megabyte_mm.data.digests import Digest
from megabyte_mm.data.encode import encode, finish_index, key_of
from megabyte_mm.data.files import Files
from megabyte_mm.data.storage.base import LocalStorage, Storage
from megabyte_mm.data.storage.encoded_cache import digests_of, is_abandoned
from megabyte_mm.data.storage.shard_writer import SHARD_BYTES, ShardManifest, ShardWriter
from megabyte_mm.data.storage.shards import INDEX, ShardReader

UNFINISHED = "prepare.json"
"""Exists while shards are being written, and identifies the work, so that other work does not continue it."""


def prepare(
    files: Files, storage: Storage, home: Path, workers: int = 1, shard_bytes: int = SHARD_BYTES
) -> ShardReader:
    """Write the files' streams as shards, or the rest of them; nothing if they are complete.

    home: the cache folder, for checksums and uploads. Raises ValueError where the storage holds anything else, or not
    one file can be read; OSError where it cannot be written, after which the same call continues.
    """
    try:
        with _lock(storage, home), _naming(storage):
            return _prepare(files, storage, _work_folder(storage, home), digests_of(files, home), workers, shard_bytes)
    except Timeout:
        raise ValueError(f"{storage}: another process is preparing it") from None


def _lock(storage: Storage, home: Path) -> FileLock:
    """Held while shards are written: in the folder itself, under any of its names; for a URL, on this machine."""
    if isinstance(storage, LocalStorage):
        storage.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(storage.folder / ".lock", timeout=0)
    (home / "locks").mkdir(parents=True, exist_ok=True)
    for left in home.glob(".sending-*"):
        if is_abandoned(left):
            shutil.rmtree(left, ignore_errors=True)
    return FileLock(home / "locks" / _hash(storage), timeout=0)


def _work_folder(storage: Storage, home: Path) -> Path:
    """Folder of unfinished shards: on the same file system, or in the cache folder until they are uploaded."""
    return storage.folder / ".writing" if isinstance(storage, LocalStorage) else home / f".sending-{_hash(storage)}"


def _hash(storage: Storage) -> str:
    return hashlib.sha256(str(storage).encode("utf-8", "surrogateescape")).hexdigest()[:16]


@contextmanager
def _naming(storage: Storage) -> Iterator[None]:
    """Name the storage in errors of writing, which name no file."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        message = f"{storage}: cannot be written: {error.strerror}; finished shards are kept: run the command again"
        raise OSError(message) from error


def _prepare(
    files: Files, storage: Storage, work_folder: Path, digests: Sequence[Digest], workers: int, shard_bytes: int
) -> ShardReader:
    key = key_of(files, [digest.sha256 for digest in digests])
    work = json.dumps({"source": key, "shard_bytes": shard_bytes}).encode()
    if is_finished(storage, key):
        _clean_up(storage)
        return ShardReader(storage)
    done = _begin(storage, work)
    shutil.rmtree(work_folder, ignore_errors=True)  # left by a killed run
    work_folder.mkdir(parents=True)

    def save(manifest: ShardManifest) -> None:
        if manifest.shard:
            storage.put(work_folder / manifest.shard["name"], manifest.shard["name"])
        storage.write(_manifest_name(len(writer.manifests) - 1), manifest.to_json())

    try:
        with closing(ShardWriter(work_folder, shard_bytes, done, save)) as writer:
            encode(files, digests, writer, workers)
            try:
                index = finish_index(writer, files, key)
            except ValueError:  # nothing to continue
                _clean_up(storage)
                raise
            storage.write(INDEX, index)
    finally:
        shutil.rmtree(work_folder, ignore_errors=True)
    _clean_up(storage)
    return ShardReader(storage)


def is_finished(storage: Storage, key: str) -> bool:
    """True for complete shards of these very files. Raises ValueError for those of others."""
    if INDEX not in storage.sizes():
        return False
    reader = ShardReader(storage)
    if reader.metadata.get("source") != key:
        raise ValueError(f"{storage}: holds prepared data of other files or settings; choose another --out")
    return True


def _begin(storage: Storage, work: bytes) -> list[ShardManifest]:
    """The manifests of an interrupted run of this work. Raises ValueError where the storage holds anything else."""
    sizes = storage.sizes()
    if UNFINISHED not in sizes:
        if sizes:
            raise ValueError(f"{storage}: is not empty (it holds {min(sizes)}); choose another --out")
        storage.write(UNFINISHED, work)
        return []
    if storage.read(UNFINISHED) != work:
        raise ValueError(
            f"{storage}: holds unfinished work on other files or settings (or these files have changed since); "
            "delete it, or choose another --out"
        )
    done: list[ShardManifest] = []
    while _manifest_name(len(done)) in sizes:
        try:
            manifest = ShardManifest.from_json(storage.read(_manifest_name(len(done))))
        except (ValueError, TypeError):
            break
        if manifest.shard and sizes.get(manifest.shard["name"]) != manifest.shard["bytes"]:
            break
        done.append(manifest)
    return done


def _clean_up(storage: Storage) -> None:
    """Delete the files that the index makes superfluous."""
    for name in sorted(storage.sizes()):
        if name == UNFINISHED or name.startswith("part-"):
            storage.remove(name)


def _manifest_name(number: int) -> str:
    return f"part-{number:05d}.json"
