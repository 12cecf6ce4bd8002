"""Where shards and their index lie: a local folder, or any file system that fsspec reaches (s3://, gs://, memory://)."""

from __future__ import annotations

import errno
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megabyte_mm.data.files import is_url, local_path
from megabyte_mm.data.storage.shard_cache import ShardCache

_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oci", "oss")
"""Where folders need not be made, and making one could make a bucket of a mistyped name."""


class Storage(ABC):
    """A flat folder of files, each of which appears whole or not at all. It pickles, and `str` names it for a user."""

    is_remote: bool

    @abstractmethod
    def read(self, name: str, limit: int | None = None) -> bytes:
        """A small file's content, or its first `limit` bytes. Raises FileNotFoundError, or another OSError."""

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """The bytes of every file directly in it; empty where there is no such folder."""

    @abstractmethod
    def put(self, file: Path, name: str) -> None:
        """Move a local file here. Raises OSError."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Make or replace a small file. Raises OSError."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Delete a file that is there. Raises OSError."""

    @abstractmethod
    def fetch(self, shard: Mapping[str, Any]) -> Path:
        """A local file with a shard's content; shard: its "name", "bytes" and "sha256" as the index has them.

        Raises ValueError where what was fetched is not what was written, OSError where nothing could be.
        """


@dataclass(frozen=True)
class LocalStorage(Storage):
    """A folder of this machine, which the first write makes."""

    folder: Path
    is_remote = False

    def __str__(self) -> str:
        return str(self.folder)

    def read(self, name: str, limit: int | None = None) -> bytes:
        """The file's content; a pipe, which would have to be waited for, is none."""
        if not (self.folder / name).is_file():
            raise FileNotFoundError(errno.ENOENT, "No such file", str(self.folder / name))
        with (self.folder / name).open("rb") as file:
            return file.read(-1 if limit is None else limit)

    def sizes(self) -> dict[str, int]:
        """Of regular files; hidden ones are none of ours."""
        if not self.folder.is_dir():
            return {}
        found = {}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(OSError):  # a link that leads in a circle
                    if entry.is_file() and not entry.name.startswith("."):
                        found[entry.name] = entry.stat().st_size
        return found

    def put(self, file: Path, name: str) -> None:
        """The file must lie on the same file system and be on the disk already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file.replace(self.folder / name)
        sync_folder(self.folder)

    def write(self, name: str, content: bytes) -> None:
        """By a temporary file beside it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{name}.new"
        try:
            write_through(temporary, content)
            temporary.replace(self.folder / name)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(self.folder)

    def remove(self, name: str) -> None:
        """Delete it."""
        (self.folder / name).unlink()

    def fetch(self, shard: Mapping[str, Any]) -> Path:
        """The file as it lies there, unread."""
        return self.folder / str(shard["name"])


@dataclass(frozen=True)
class RemoteStorage(Storage):
    """A folder at a URL, read through a cache of shards on this machine.

    Credentials, endpoints and options are taken where fsspec and the client of the service look for them (environment,
    ~/.aws, ~/.config/fsspec). A service that takes files whole, as S3 does, shows none half written.
    """

    url: str
    cache: ShardCache
    is_remote = True

    def __str__(self) -> str:
        return self.url

    def read(self, name: str, limit: int | None = None) -> bytes:
        """Read over the network."""
        with self._asking(name) as (system, root):
            content: bytes = system.cat_file(f"{root}/{name}", start=None, end=limit)
            return content

    def sizes(self) -> dict[str, int]:
        """By one listing; a web server, whose listing has no sizes, is asked for each."""
        found = {}
        with self._asking("") as (system, root):
            system.invalidate_cache()
            try:
                entries = system.ls(root, detail=True)
            except FileNotFoundError:
                return {}
            for entry in entries:
                name = entry["name"].rpartition("/")[2]
                if entry["type"] == "file" and name and entry["name"].rstrip("/") != root:
                    size = entry["size"] if entry["size"] is not None else system.size(entry["name"])
                    if size is None:
                        raise ValueError(f"the server does not tell how large {name} is")
                    found[name] = int(size)
        return found

    def put(self, file: Path, name: str) -> None:
        """Send the file, then delete it here."""
        with self._asking(name) as (system, root):
            self._make_folder(system, root)
            system.put_file(str(file), f"{root}/{name}")
        file.unlink()

    def write(self, name: str, content: bytes) -> None:
        """Send it in one piece."""
        with self._asking(name) as (system, root):
            self._make_folder(system, root)
            system.pipe_file(f"{root}/{name}", content)

    def remove(self, name: str) -> None:
        """Delete it there."""
        with self._asking(name) as (system, root):
            system.rm_file(f"{root}/{name}")

    def fetch(self, shard: Mapping[str, Any]) -> Path:
        """From the cache, which gets it first where it is not there."""
        name = shard["name"]

        def download(target: Path) -> None:
            with self._asking(name) as (system, root):
                system.get_file(f"{root}/{name}", str(target))

        return self.cache.get(shard["sha256"], shard["bytes"], download, f"{self.url}/{name}")

    def _make_folder(self, system: Any, root: str) -> None:
        if self.url.partition("://")[0] not in _OBJECT_STORES:
            system.makedirs(root, exist_ok=True)

    @contextmanager
    def _asking(self, name: str) -> Iterator[tuple[Any, str]]:
        """The file system and the folder's path in it; whatever goes wrong is an OSError that names the URL."""
        import fsspec

        what = f"{self.url}/{name}".rstrip("/")
        try:
            # fsspec keeps one instance for each process: after a fork, the parent's cannot be used.
            system, root = fsspec.core.url_to_fs(self.url)
            yield system, root.rstrip("/")
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{what}: no such file, folder or bucket") from error
        except ImportError as error:
            raise OSError(f"{what}: {error}; pip install 'megabyte-mm[cloud]' brings S3's") from error
        except _client_errors() as error:
            raise OSError(f"{what}: {' '.join(str(error).split()) or type(error).__name__}") from error


def _client_errors() -> tuple[type[Exception], ...]:
    """What clients of services raise; the errors of S3's are no OSError, and are known only once it is loaded."""
    found: list[type[Exception]] = [OSError, ValueError]
    for module, names in {"botocore.exceptions": ("BotoCoreError", "ClientError"), "aiohttp": ("ClientError",)}.items():
        found += [getattr(sys.modules[module], name) for name in names if module in sys.modules]
    return tuple(found)


def storage_at(path: str, cache: ShardCache) -> Storage:
    """The place that a user's path or URL names."""
    return RemoteStorage(path.rstrip("/"), cache) if is_url(path) else LocalStorage(local_path(path))


def write_through(file: Path, content: bytes) -> None:
    """Write a file to the disk itself."""
    with file.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk itself."""
    if os.name == "posix":  # elsewhere a folder cannot be opened
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
