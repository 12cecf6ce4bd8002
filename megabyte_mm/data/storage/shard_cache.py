"""Shards from afar, kept on this machine up to a bound: the least recently used goes first."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

_FETCHING = ".fetching"
_GIVEN_UP = 3600.0
"""Seconds after which a download that makes no progress is that of a killed process."""


@dataclass(frozen=True)
class ShardCache:
    """Files named by their sha256 in `folder`, of at most `limit` bytes together; shared by all processes of a machine.

    A shard larger than the limit is kept nevertheless, alone. On POSIX systems, what is removed while it is mapped
    stays readable, and its space is freed when the last map is let go.
    """

    folder: Path
    limit: int

    def get(self, sha256: str, size: int, download: Callable[[Path], None], name: str) -> Path:
        """The file of that content: kept already, or made by `download`, which is given the path to fill.

        Of several processes that want it, one downloads and the others wait. Raises ValueError, naming `name`, where
        what came has another sha256; what `download` raises passes through. Nothing is left behind by either.
        """
        path = self.folder / f"{sha256}.bin"
        if self._touched(path, size):
            return path
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f"{sha256[:2]}.lock"):
            if not self._touched(path, size):
                self._fetch(path, sha256, size, download, name)
        return path

    def _touched(self, path: Path, size: int) -> bool:
        """Mark the file as used just now; whether it is there."""
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
        kept, filled = [], size
        for file in self.folder.iterdir():
            with suppress(FileNotFoundError):
                status = file.stat()
                if file.suffix == ".bin":
                    kept.append((status.st_mtime_ns, status.st_size, file))
                    filled += status.st_size
                elif file.suffix == _FETCHING and time.time() - status.st_mtime > _GIVEN_UP:
                    file.unlink()
                elif file.suffix == _FETCHING:
                    filled += int(file.stem.rpartition("-")[2])
        for _, freed, file in sorted(kept):
            if filled <= self.limit:
                break
            file.unlink(missing_ok=True)
            filled -= freed
