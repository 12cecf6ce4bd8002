"""Storage at any URL that fsspec opens (s3://, gs://, memory://), read through a cache of shards on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megabyte_mm.data.files import is_url, local_path
from megabyte_mm.data.storage.base import LocalStorage, Storage
from megabyte_mm.data.storage.shard_cache import ShardCache
from megabyte_mm.errors import FieldError

_CLIENT_ERRORS = {
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "aiohttp": ("ClientError",),
    "httpx": ("HTTPError",),
    "httpx2": ("HTTPError",),
}
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oci", "oss")
"""Stores without folders, where creating one could create a bucket of a mistyped name."""


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
        with file_system(self.url, name) as (system, root):
            content: bytes = system.cat_file(f"{root}/{name}", start=None, end=limit)
            return content

    def sizes(self) -> dict[str, int]:
        """Bytes of each file, from one listing, or one request each on a web server, whose listing has no sizes."""
        sizes = {}
        with file_system(self.url, "") as (system, root):
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
        with file_system(self.url, name) as (system, root):
            self._make_folder(system, root)
            system.put_file(str(file), f"{root}/{name}")
        file.unlink()

    def write(self, name: str, content: bytes) -> None:
        """Upload the content in one piece."""
        with file_system(self.url, name) as (system, root):
            self._make_folder(system, root)
            system.pipe_file(f"{root}/{name}", content)

    def remove(self, name: str) -> None:
        """Delete the file at the URL."""
        with file_system(self.url, name) as (system, root):
            system.rm_file(f"{root}/{name}")

    def fetch(self, shard: Mapping[str, Any]) -> Path:
        """The shard's file in the cache, downloaded first if it is missing there."""
        name = shard["name"]

        def download(target: Path) -> None:
            with file_system(self.url, name) as (system, root):
                system.get_file(f"{root}/{name}", str(target))

        return self.cache.get(shard["sha256"], shard["bytes"], download, f"{self.url}/{name}")

    def _make_folder(self, system: Any, root: str) -> None:
        if self.url.partition("://")[0] not in _OBJECT_STORES:
            system.makedirs(root, exist_ok=True)


@contextmanager
def file_system(url: str, name: str = "") -> Iterator[tuple[Any, str]]:
    """The file system at a URL, and the URL's path in it; every failure is raised as an OSError that names the URL.

    name: of the file below that is read or written, for messages.
    """
    import fsspec

    place = f"{url}/{name}".rstrip("/")
    try:
        # fsspec keeps one instance for each process: after a fork, the parent's cannot be used.
        system, root = fsspec.core.url_to_fs(url)
        yield system, root.rstrip("/")
    except FieldError:
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{place}: no such file, folder or bucket") from error
    except ImportError as error:
        raise OSError(f"{place}: {error}; {_extra(url)}") from error
    except _client_errors() as error:
        raise OSError(f"{place}: {' '.join(str(error).split()) or type(error).__name__}") from error


def _extra(url: str) -> str:
    """How to install what opens a URL."""
    if url.startswith("hf://"):
        return "for the Hugging Face hub: pip install 'megabyte-mm[hub]'"
    return "for S3: pip install 'megabyte-mm[cloud]'"


def _client_errors() -> tuple[type[Exception], ...]:
    """Exceptions of storage clients; those of some are not OSErrors and exist only after import."""
    errors: list[type[Exception]] = [OSError, ValueError]
    for module, names in _CLIENT_ERRORS.items():
        errors += [getattr(sys.modules[module], name) for name in names if module in sys.modules]
    return tuple(errors)
