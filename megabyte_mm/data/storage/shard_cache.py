"""Prepared shards on this machine: downloaded once, up to a limit, shared by all processes."""

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
_STALLED_SECONDS = 3600.0
"""Seconds without progress after which a download counts as that of a killed process."""


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
            # Another process that is making room would count the file under neither of its names.
            with FileLock(self.folder / "room.lock"):
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
