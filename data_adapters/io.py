"""Read whole files and write them atomically; separate transient read errors from permanent ones."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from data_adapters.base import MediaError


class UnavailableError(MediaError):
    """A file that the machine could not read this time (memory, disk, network): a later attempt may succeed."""


_TRANSIENT_ERRNOS = {
    getattr(errno, name)
    for name in (
        *("EIO", "EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "EINTR", "EBUSY", "ESTALE", "ETIMEDOUT", "EREMOTEIO"),
        *("ENETDOWN", "ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH", "ECONNRESET", "ECONNREFUSED", "ENOTCONN"),
    )
    if hasattr(errno, name)
}
"""Errors of a disk, a network or the system, as opposed to errors of one file."""


def is_transient(error: OSError) -> bool:
    """True for a read error caused by the machine rather than by the file: trying again may help."""
    return error.errno in _TRANSIENT_ERRNOS


_SPECIAL_FILES = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
"""Kinds that may never end, or block until another process writes."""


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the file's content, following links.

    Raises MediaError for a file that cannot be read: missing, a folder, a pipe or a device, not permitted.
    Raises UnavailableError where the machine fails: out of memory, too many open files, a disk or network error.
    """
    path = Path(path)
    try:
        refuse_special(path)
        return path.read_bytes()
    except MemoryError as error:
        raise UnavailableError(path, "is too large for this machine's memory") from error
    except OSError as error:
        if is_transient(error):
            raise UnavailableError(path, f"cannot be read: {error.strerror}") from error
        if isinstance(error, FileNotFoundError) and path.is_symlink():
            raise MediaError(path, "is a broken link") from error
        raise MediaError(path, f"cannot be read: {error.strerror or error}") from error


def refuse_special(path: Path) -> None:
    """Raise MediaError for a pipe, a socket or a device; a missing file passes."""
    with suppress(OSError):
        if special := _SPECIAL_FILES.get(stat.S_IFMT(path.stat().st_mode)):
            raise MediaError(path, f"is {special}, not a file")


def write_atomically(path: str | os.PathLike[str], write: Callable[[Path], object]) -> None:
    """Call `write` with the path of a temporary file beside `path`, then rename that file to `path` in one step.

    On failure no file is left behind. Raises MediaError where the folder is missing, not permitted or full.
    """
    path = Path(path)
    temporary = path.parent / f".{secrets.token_hex(8)}{path.suffix}"
    try:
        write(temporary)
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise MediaError(path, f"cannot be written: {error.strerror or error}") from error
        raise
