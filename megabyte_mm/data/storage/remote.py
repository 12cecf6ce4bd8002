"""Storage at any URL that fsspec opens (s3://, gs://, memory://), read through a cache of shards on this machine."""

from __future__ import annotations

import hashlib
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from megabyte_mm.data.files import is_url, local_path
from megabyte_mm.data.storage.base import LocalStorage, Storage

_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oci", "oss")
"""Stores without folders, where creating one could create a bucket of a mistyped name."""
_FETCHING = ".fetching"
_STALLED_SECONDS = 3600.0
"""Seconds without progress after which a download counts as that of a killed process."""


def open_storage(path: str, cache: ShardCache) -> Storage:
    """The storage at a user's path or URL."""
    return RemoteStorage(path.rstrip("/"), cache) if is_url(path) else LocalStorage(local_path(path))


@dataclass(frozen=True)
class RemoteStorage(Storage):
    """A folder at a URL, read through a cache of shards on this machine.

    fsspec and the service's client find credentials, endpoints and options themselves (environment, ~/.aws,
    ~/.config/fsspec). On a service that takes whole files, as S3 does, no file is ever half written.
    """

    url: str
    cache: ShardCache
    is_remote = True

    def __str__(self) -> str:
        return self.url

    def read(self, name: str, limit: int | None = None) -> bytes:
        """Read over the network."""
        with self._file_system(name) as (system, root):
            content: bytes = system.cat_file(f"{root}/{name}", start=None, end=limit)
            return content

    def sizes(self) -> dict[str, int]:
        """Bytes of each file, from one listing, or one request each on a web server, whose listing has no sizes."""
        sizes = {}
        with self._file_system("") as (system, root):
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
                        raise ValueError(f"the server does not report the size of {name}")
                    sizes[name] = int(size)
        return sizes

    def put(self, file: Path, name: str) -> None:
        """Upload the file, then delete it here."""
        with self._file_system(name) as (system, root):
            self._make_folder(system, root)
            system.put_file(str(file), f"{root}/{name}")
        file.unlink()

    def write(self, name: str, content: bytes) -> None:
        """Upload the content in one piece."""
        with self._file_system(name) as (system, root):
            self._make_folder(system, root)
            system.pipe_file(f"{root}/{name}", content)

    def remove(self, name: str) -> None:
        """Delete the file at the URL."""
        with self._file_system(name) as (system, root):
            system.rm_file(f"{root}/{name}")

    def fetch(self, shard: Mapping[str, Any]) -> Path:
        """The shard's file in the cache, downloaded first if it is missing there."""
        name = shard["name"]

        def download(target: Path) -> None:
            with self._file_system(name) as (system, root):
                system.get_file(f"{root}/{name}", str(target))

        return self.cache.get(shard["sha256"], shard["bytes"], download, f"{self.url}/{name}")

    def _make_folder(self, system: Any, root: str) -> None:
        if self.url.partition("://")[0] not in _OBJECT_STORES:
            system.makedirs(root, exist_ok=True)

    @contextmanager
    def _file_system(self, name: str) -> Iterator[tuple[Any, str]]:
        """The file system, and the folder's path in it; every failure is raised as an OSError that names the URL."""
        import fsspec

        url = f"{self.url}/{name}".rstrip("/")
        try:
            # fsspec keeps one instance for each process: after a fork, the parent's cannot be used.
            system, root = fsspec.core.url_to_fs(self.url)
            yield system, root.rstrip("/")
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{url}: no such file, folder or bucket") from error
        except ImportError as error:
            raise OSError(f"{url}: {error}; for S3: pip install 'megabyte-mm[cloud]'") from error
        except _client_errors() as error:
            raise OSError(f"{url}: {' '.join(str(error).split()) or type(error).__name__}") from error


def _client_errors() -> tuple[type[Exception], ...]:
    """Exceptions of storage clients; botocore's and aiohttp's are not OSErrors and exist only after import."""
    errors: list[type[Exception]] = [OSError, ValueError]
    for module, names in {"botocore.exceptions": ("BotoCoreError", "ClientError"), "aiohttp": ("ClientError",)}.items():
        errors += [getattr(sys.modules[module], name) for name in names if module in sys.modules]
    return tuple(errors)


@dataclass(frozen=True)
class ShardCache:
    """Files named by their sha256 in `folder`, of at most `limit` bytes together; shared by all processes of a machine.

    The least recently used are deleted first. A shard larger than the limit is stored nevertheless, alone. On POSIX
    systems a deleted file that is mapped stays readable, and its space is freed with its last map.
    """

    folder: Path
    limit: int

    def get(self, sha256: str, size: int, download: Callable[[Path], None], name: str) -> Path:
        """The cached file of that content; `download` fills the given path if it is missing.

        Of several processes that want it, one downloads and the others wait. Raises ValueError, naming `name`, where
        the downloaded content has another sha256, and whatever `download` raises. Neither leaves a file behind.
        """
        path = self.folder / f"{sha256}.bin"
        if self._mark_used(path, size):
            return path
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f"{sha256[:2]}.lock"):
            if not self._mark_used(path, size):
                self._fetch(path, sha256, size, download, name)
        return path

    def _mark_used(self, path: Path, size: int) -> bool:
        """Set the file's time to now; False for a missing file, or one of another size."""
        try:
            os.utime(path)
            return path.stat().st_size == size
        except FileNotFoundError:
            return False

    def _fetch(self, path: Path, sha256: str, size: int, download: Callable[[Path], None], name: str) -> None:
        # The size in its name: others count it from the start, not as it grows.
        temporary = path.with_name(f"{uuid.uuid4().hex}-{size}{_FETCHING}")
        try:
            with FileLock(self.folder / "room.lock"):
                self._make_room(size)
                temporary.touch()
            download(temporary)
            with temporary.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    raise ValueError(f"{name}: its content is not what was written")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Delete the least recently used files until `size` more bytes fit; downloads in progress count as complete."""
        cached, filled = [], size
        for file in self.folder.iterdir():
            with suppress(FileNotFoundError):
                status = file.stat()
                if file.suffix == ".bin":
                    cached.append((status.st_mtime_ns, status.st_size, file))
                    filled += status.st_size
                elif file.suffix == _FETCHING and time.time() - status.st_mtime > _STALLED_SECONDS:
                    file.unlink()
                elif file.suffix == _FETCHING:
                    filled += int(file.stem.rpartition("-")[2])
        for _, freed, file in sorted(cached):
            if filled <= self.limit:
                break
            file.unlink(missing_ok=True)
            filled -= freed
