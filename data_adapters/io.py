"""Reading whole files and writing them atomically; errors that lie with the machine and not with the file."""

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
    """A file that could not be read just now, for a reason that is not in it: the same file may be read later."""


_PASSING = {
    getattr(errno, name)
    for name in (
        *("EIO", "EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "EINTR", "EBUSY", "ESTALE", "ETIMEDOUT", "EREMOTEIO"),
        *("ENETDOWN", "ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH", "ECONNRESET", "ECONNREFUSED", "ENOTCONN"),
    )
    if hasattr(errno, name)
}
"""What a system says of a disk, a network or itself, and not of a file."""


def is_transient(error: OSError) -> bool:
    """Whether an error of reading lies with the machine, and not with the file."""
    return error.errno in _PASSING


_SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
"""What can be read without end, or waits for somebody who writes."""


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The file's content; links are followed.

    Raises MediaError where there is none to read: missing, a folder, a pipe or a device, not permitted;
    UnavailableError where the machine could not: beyond its memory, too many open files, a disk or network that fails.
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
            raise MediaError(path, "is a link to what does not exist") from error
        raise MediaError(path, f"cannot be read: {error.strerror or error}") from error


def refuse_special(path: Path) -> None:
    """Raises MediaError for a pipe, a socket or a device; what is not there at all passes."""
    with suppress(OSError):
        if special := _SPECIAL.get(stat.S_IFMT(path.stat().st_mode)):
            raise MediaError(path, f"is {special}, not a file")


def write_atomically(path: str | os.PathLike[str], write: Callable[[Path], object]) -> None:
    """Let `write` make a temporary file beside `path`, then put it in place in one step; nothing is left on failure.

    Raises MediaError where the folder is missing, not permitted or full.
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
