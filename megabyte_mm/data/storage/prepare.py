"""Encodes files once, into shards at a place from which many machines train; killed, it goes on where it was.

Every shard is put in place whole, and after it a part file that says which files it covers. The index comes last, the
part files then go. Files are taken in the order of their names and shards depend on them alone, so an interrupted run
and an undisturbed one, with one process or many, end with the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from megabyte_mm.data.digests import Digest
from megabyte_mm.data.encode import encode, finish_index, key_of
from megabyte_mm.data.files import Files
from megabyte_mm.data.storage.base import LocalStorage, Storage
from megabyte_mm.data.storage.cache import digests_of
from megabyte_mm.data.storage.shard_writer import SHARD_BYTES, ShardManifest, ShardWriter
from megabyte_mm.data.storage.shards import INDEX, ShardReader

_DAY = 86_400
UNFINISHED = "prepare.json"
"""Lies where shards are being made; it names the work, so that other work does not go on with it."""


def prepare(files: Files, place: Storage, home: Path, workers: int = 1, shard_bytes: int = SHARD_BYTES) -> ShardReader:
    """The files' streams as shards at `place`, made, completed, or found finished.

    home: the cache folder, for what is remembered and what waits to be sent. Raises ValueError where something else
    lies at the place, or not one file can be read; OSError where it cannot be written, and what was done is kept.
    """
    try:
        with _lock(place, home), _told_by(place):
            return _prepare(files, place, _workplace(place, home), digests_of(files, home), workers, shard_bytes)
    except Timeout:
        raise ValueError(f"{place}: another process is preparing it") from None


def _lock(place: Storage, home: Path) -> FileLock:
    """Held while shards are made: in the folder itself, by whatever name it is called; of a URL, on this machine."""
    if isinstance(place, LocalStorage):
        place.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(place.folder / ".lock", timeout=0)
    (home / "locks").mkdir(parents=True, exist_ok=True)
    for left in home.glob(".sending-*"):
        if time.time() - left.stat().st_mtime > _DAY:
            shutil.rmtree(left, ignore_errors=True)
    return FileLock(home / "locks" / _mark(place), timeout=0)


def _workplace(place: Storage, home: Path) -> Path:
    """Where shards are written before they are put in place: on the same file system, or where they wait to be sent."""
    return place.folder / ".writing" if isinstance(place, LocalStorage) else home / f".sending-{_mark(place)}"


def _mark(place: Storage) -> str:
    return hashlib.sha256(str(place).encode("utf-8", "surrogateescape")).hexdigest()[:16]


@contextmanager
def _told_by(place: Storage) -> Iterator[None]:
    """Errors of writing do not say where."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        told = f"{place}: cannot be written: {error.strerror}; what is done is kept, and the same command goes on"
        raise OSError(told) from error


def _prepare(
    files: Files, place: Storage, making: Path, digests: Sequence[Digest], workers: int, shard_bytes: int
) -> ShardReader:
    key = key_of(files, [digest.sha256 for digest in digests])
    work = json.dumps({"source": key, "shard_bytes": shard_bytes}).encode()
    if is_finished(place, key):
        _tidy(place)
        return ShardReader(place)
    done = _begin(place, work)
    shutil.rmtree(making, ignore_errors=True)  # what a kill left
    making.mkdir(parents=True)

    def keep(part: ShardManifest) -> None:
        if part.shard:
            place.put(making / part.shard["name"], part.shard["name"])
        place.write(_part_name(len(writer.parts) - 1), part.to_json())

    try:
        with closing(ShardWriter(making, shard_bytes, done, keep)) as writer:
            encode(files, digests, writer, workers)
            try:
                index = finish_index(writer, files, key)
            except ValueError:  # there is nothing to go on with
                _tidy(place)
                raise
            place.write(INDEX, index)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    _tidy(place)
    return ShardReader(place)


def is_finished(place: Storage, key: str) -> bool:
    """Whether the place holds these very files, all of them. Raises ValueError where it holds others."""
    if INDEX not in place.sizes():
        return False
    reader = ShardReader(place)
    if reader.metadata.get("source") != key:
        raise ValueError(f"{place}: holds prepared data of other files or settings; choose another --out")
    return True


def _begin(place: Storage, work: bytes) -> list[ShardManifest]:
    """The parts that an earlier run finished. Raises ValueError where the place holds anything else."""
    sizes = place.sizes()
    if UNFINISHED not in sizes:
        if sizes:
            raise ValueError(f"{place}: is not empty (it holds {min(sizes)}); choose another --out")
        place.write(UNFINISHED, work)
        return []
    if place.read(UNFINISHED) != work:
        raise ValueError(
            f"{place}: holds unfinished work on other files or settings (or these files have changed since); "
            "delete it, or choose another --out"
        )
    done: list[ShardManifest] = []
    while _part_name(len(done)) in sizes:
        try:
            part = ShardManifest.from_json(place.read(_part_name(len(done))))
        except (ValueError, TypeError):
            break
        if part.shard and sizes.get(part.shard["name"]) != part.shard["bytes"]:
            break
        done.append(part)
    return done


def _tidy(place: Storage) -> None:
    """Remove what the index has made superfluous."""
    for name in sorted(place.sizes()):
        if name == UNFINISHED or name.startswith("part-"):
            place.remove(name)


def _part_name(number: int) -> str:
    return f"part-{number:05d}.json"
