"""The sha256 of many files, remembered between runs for those that did not change."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from data_adapters.base import MediaError
from data_adapters.io import write_bytes
from megabyte_mm.progress import progress

_SETTLED_NS = 2 * 10**9
UNREADABLE = "unreadable"


class Digest(NamedTuple):
    """The sha256 of a file in hexadecimal, or UNREADABLE, and the size, times and inode that the file had then."""

    sha256: str
    stamp: list[int]

    def is_of(self, path: Path) -> bool:
        """True for a file that still has that content; it is read only where its stamp differs."""
        try:
            return _stamp(path) == self.stamp or _sha256(path) == self.sha256
        except OSError:
            return self.sha256 == UNREADABLE


def file_digests(paths: Sequence[Path], memo: Path) -> list[Digest]:
    """The digest of each file.

    memo: a JSON file of earlier digests, used for a file whose size, times and inode are the same; it is rewritten
    atomically, and its loss or damage costs only time. A file changed within the last two seconds is not remembered:
    it could change again without a change of its times.
    """
    known = _load(memo)
    fresh: dict[str, list[int | str]] = {}
    digests = []
    for path in progress(paths, "checking files"):
        key = str(path.absolute())
        try:
            stamp = _stamp(path)
            entry = known.get(key)
            digest = str(entry[-1]) if entry and entry[:-1] == stamp else _sha256(path)
        except OSError:
            digests.append(Digest(UNREADABLE, []))
            continue
        if time.time_ns() - max(stamp[1:3]) > _SETTLED_NS:
            fresh[key] = [*stamp, digest]
        digests.append(Digest(digest, stamp))
    if fresh != known:
        with suppress(OSError, MediaError):  # a full disk, or a read-only cache
            memo.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(fresh, separators=(",", ":"))
            write_bytes(memo, text.encode("ascii"))
    return digests


def _load(memo: Path) -> dict[str, list[int | str]]:
    try:
        known = json.loads(memo.read_bytes())
    except (OSError, ValueError):
        return {}
    sound = isinstance(known, dict) and all(isinstance(entry, list) and len(entry) == 5 for entry in known.values())
    return known if sound else {}


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _sha256(path: Path) -> str:
    if not path.is_file():  # opening a pipe would block
        raise FileNotFoundError(f"{path} is not a regular file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
