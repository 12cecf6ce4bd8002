"""Storage of shards and their index: a flat folder of files, on this machine or at a URL (`remote`)."""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_adapters.io import open_durable, replacing, sync_folder


class Storage(ABC):
    """A flat folder of files, each complete or missing. It pickles, and `str` names it for a user."""

    is_remote: bool

    @abstractmethod
    def read(self, name: str, limit: int | None = None) -> bytes:
        """A small file's content, or its first `limit` bytes. Raises FileNotFoundError, or another OSError."""

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Bytes of each file in the folder, by name; empty for a missing folder."""

    @abstractmethod
    def put(self, file: Path, name: str) -> None:
        """Move a local file here. Raises OSError."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Create or replace a small file. Raises OSError."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Delete an existing file. Raises OSError."""

    @abstractmethod
    def fetch(self, shard: Mapping[str, Any]) -> Path:
        """A local file with a shard's content; shard: its "name", "bytes" and "sha256" from the index.

        Raises ValueError for a shard whose content is not what was written, OSError for one that cannot be read.
        """


@dataclass(frozen=True)
class LocalStorage(Storage):
    """A folder of this machine, created by the first write."""

    folder: Path
    is_remote = False

    def __str__(self) -> str:
        return str(self.folder)

    def read(self, name: str, limit: int | None = None) -> bytes:
        """The file's content; a pipe, which would block, counts as missing."""
        if not (self.folder / name).is_file():
            raise FileNotFoundError(errno.ENOENT, "No such file", str(self.folder / name))
        with (self.folder / name).open("rb") as file:
            return file.read(-1 if limit is None else limit)

    def sizes(self) -> dict[str, int]:
        """Bytes of each regular file that is not hidden."""
        if not self.folder.is_dir():
            return {}
        sizes = {}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(OSError):  # a circular link
                    if entry.is_file() and not entry.name.startswith("."):
                        sizes[entry.name] = entry.stat().st_size
        return sizes

    def put(self, file: Path, name: str) -> None:
        """Rename a file of the same file system, which must have been written through to the disk."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file.replace(self.folder / name)
        sync_folder(self.folder)

    def write(self, name: str, content: bytes) -> None:
        """Write a temporary file and rename it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / name) as temporary, open_durable(temporary) as file:
            file.write(content)
        sync_folder(self.folder)

    def remove(self, name: str) -> None:
        """Delete the file."""
        (self.folder / name).unlink()

    def fetch(self, shard: Mapping[str, Any]) -> Path:
        """The shard's own file, unread."""
        return self.folder / str(shard["name"])
