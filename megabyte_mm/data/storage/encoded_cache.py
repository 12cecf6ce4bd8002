"""The cache of encoded files: a shard folder for each set of files, named by their content and the adapter's settings.

A folder is filled under a temporary name and renamed when it is complete. Of two processes that
encode the same files, the one that renames first wins and the other uses its folder. A killed process leaves a
temporary folder, which names its host and process and is deleted by a later run.
"""

from __future__ import annotations

import atexit
import errno
import hashlib
import logging
import os
import shutil
import socket
import time
import uuid
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from data_adapters.io import sync_folder
from megabyte_mm.data.digests import Digest, file_digests
from megabyte_mm.data.encode import encode, finish_index, key_of
from megabyte_mm.data.files import Files
from megabyte_mm.data.storage.shard_cache import ShardCache
from megabyte_mm.data.storage.shard_writer import ShardWriter, write_index
from megabyte_mm.data.storage.shards import DamagedShardsError, ShardReader

log = logging.getLogger(__name__)
_TEMPORARY = ".encoding"
_DAY = 86_400


@dataclass(frozen=True)
class CacheConfig:
    """The cache of this machine. folder: of encoded and fetched files. limit: bytes of fetched shards, at most."""

    folder: Path
    limit: int

    @classmethod
    def at(cls, cache_dir: str | None, gibibytes: float = 16.0) -> CacheConfig:
        """The cache in `cache_folder(cache_dir)`."""
        return cls(cache_folder(cache_dir), int(gibibytes * 2**30))

    @property
    def shards(self) -> ShardCache:
        """The cache of remote shards."""
        return ShardCache(self.folder / "shards", self.limit)


def cache_folder(cache_dir: str | None = None) -> Path:
    """`cache_dir`, else $MEGABYTE_MM_CACHE, else ~/.cache/megabyte-mm; a temporary folder where there is no home."""
    chosen = cache_dir or os.environ.get("MEGABYTE_MM_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    with suppress(OSError, RuntimeError):  # a container's user may have no home, or one that is not writable
        folder = Path("~/.cache/megabyte-mm").expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    return _temporary_folder()


@cache
def _temporary_folder() -> Path:
    """A folder that lasts as long as this process, with a warning."""
    temporary = TemporaryDirectory(prefix="megabyte-mm-")
    atexit.register(temporary.cleanup)
    log.warning(
        "no home folder to keep encoded files in: they are in %s until this command ends; name a folder with "
        "--data.cache_dir or the variable MEGABYTE_MM_CACHE",
        temporary.name,
    )
    return Path(temporary.name)


def load_or_encode(files: Files, cache_dir: str | None = None) -> ShardReader:
    """The streams of all files, from the cache or encoded into it; a damaged cache entry is encoded again.

    A file that the adapter cannot read, or that changes meanwhile, is left out. The result's `metadata` lists such
    files in "skipped" as {path, reason}, counts conversions by kind in "notes", and lists in "clipped" the files that
    lost range. Raises FieldError, with the first reasons, where not one file can be read.
    """
    home = cache_folder(cache_dir)
    home.mkdir(parents=True, exist_ok=True)
    digests = digests_of(files, home)
    folder = home / key_of(files, [digest.sha256 for digest in digests])
    if (reader := _opened(folder)) is not None:
        return reader
    _sweep(home)
    temporary = home / f"{_TEMPORARY}@{socket.gethostname()}@{os.getpid()}@{uuid.uuid4().hex}"
    temporary.mkdir()
    try:
        with closing(ShardWriter(temporary)) as writer:
            key = key_of(files, encode(files, digests, writer))
            write_index(temporary, finish_index(writer, files, key))
        return _publish(temporary, home / key)
    except OSError as error:  # errors of writing name no file
        raise OSError(error.errno, error.strerror, error.filename or str(home)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def digests_of(files: Files, home: Path) -> list[Digest]:
    """The sha256 of each file, remembered in the cache folder `home`, or of each text."""
    if files.texts is not None:
        texts = (files.texts[name].encode("utf-8", "surrogateescape") for name in files.names)
        return [Digest(hashlib.sha256(text).hexdigest(), []) for text in texts]
    root = hashlib.sha256(os.fsencode(files.root.resolve())).hexdigest()
    return file_digests([files.path(name) for name in files.names], home / "digests" / f"{root[:16]}.json")


def _opened(folder: Path) -> ShardReader | None:
    try:
        return ShardReader(folder)
    except DamagedShardsError:
        return None


def _publish(temporary: Path, folder: Path) -> ShardReader:
    """Rename into the cache; another process's sound folder is used instead, and a damaged one replaced."""
    sync_folder(temporary)
    while True:
        try:
            temporary.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if (winner := _opened(folder)) is not None:
                return winner
            aside = temporary.with_name(f"{temporary.name}-{uuid.uuid4().hex}")
            with suppress(FileNotFoundError):
                folder.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            sync_folder(folder.parent)
            return ShardReader(folder)


def _sweep(home: Path) -> None:
    """Delete the temporary folders of dead processes of this host, and those older than a day."""
    for folder in home.glob(f"{_TEMPORARY}@*"):
        _, host, pid, _ = folder.name.split("@", 3)
        with suppress(FileNotFoundError):
            if is_abandoned(folder) or (host == socket.gethostname() and not _alive(int(pid))):
                shutil.rmtree(folder, ignore_errors=True)


def is_abandoned(folder: Path) -> bool:
    """True for a temporary folder that has not changed for a day. Raises FileNotFoundError."""
    return time.time() - folder.stat().st_mtime > _DAY


def _alive(pid: int) -> bool:
    if os.name != "posix":  # no harmless signal exists
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
