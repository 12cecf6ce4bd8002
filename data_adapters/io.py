"""Read whole files, write and replace files atomically; separate transient read errors from permanent ones."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

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


@contextmanager
def open_binary(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for reading, following links; the errors below also stand for those of the block.

    Raises MediaError for a file that cannot be read: missing, a folder, a pipe or a device, not permitted.
    Raises UnavailableError where the machine fails: out of memory, too many open files, a disk or network error.
    """
    path = Path(path)
    try:
        refuse_special(path)
        with path.open("rb") as file:
            yield file
    except MemoryError as error:
        raise UnavailableError(path, "is too large for this machine's memory") from error
    except OSError as error:
        if is_transient(error):
            raise UnavailableError(path, f"cannot be read: {error.strerror}") from error
        if isinstance(error, FileNotFoundError) and path.is_symlink():
            raise MediaError(path, "is a broken link") from error
        raise MediaError(path, f"cannot be read: {error.strerror or error}") from error


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the file's content, with the errors of `open_binary`."""
    with open_binary(path) as file:
        return file.read()


def refuse_special(path: Path) -> None:
    """Raise MediaError for a pipe, a socket or a device; a missing file passes."""
    with suppress(OSError):
        if special := _SPECIAL_FILES.get(stat.S_IFMT(path.stat().st_mode)):
            raise MediaError(path, f"is {special}, not a file")


def write_atomically(path: str | os.PathLike[str], write: Callable[[Path], object]) -> None:
    """Call `write` with the path of a temporary file, then put its content at `path`: complete, or not at all.

    Through a link, the file that it names is replaced. A pipe or a device receives the content, and so does an open
    file of this process, such as /dev/stdout, behind what it holds already. On failure no file is left behind. Raises
    MediaError where the folder is missing, not permitted or full.
    """
    path = Path(path)
    try:
        descriptor = _open_descriptor(path)
        if descriptor is not None or (path.exists() and not path.is_file() and not path.is_dir()):
            _write_special(path if descriptor is None else descriptor, write, path.suffix)
            return
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        with replacing(target, target.with_name(f".{secrets.token_hex(8)}{path.suffix}")) as temporary:
            write(temporary)
    except OSError as error:
        raise MediaError(path, f"cannot be written: {error.strerror or error}") from error


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write the content at `path`, with the promises of `write_atomically`."""
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def _open_descriptor(path: Path) -> int | None:
    """The number of the open file of this process that a path such as /dev/stdout or /dev/fd/3 names, or None."""
    if str(path.parent) in ("/dev/fd", "/proc/self/fd"):
        return int(path.name) if path.name.isdecimal() else None
    return {"/dev/stdout": 1, "/dev/stderr": 2}.get(str(path))


def _write_special(target: Path | int, write: Callable[[Path], object], suffix: str) -> None:
    """Write into what a path names, or into an open file, whose position moves on."""
    with TemporaryDirectory() as folder:
        temporary = Path(folder, f"content{suffix}")
        write(temporary)
        sys.stdout.flush()
        sys.stderr.flush()
        with temporary.open("rb") as content, open(target, "wb", closefd=isinstance(target, Path)) as special:
            shutil.copyfileobj(content, special)


@contextmanager
def replacing(path: Path, temporary: Path | None = None) -> Iterator[Path]:
    """Yield the path of a temporary file to write, and rename it to `path` when the block ends.

    If the block fails, the temporary file is removed and `path` stays as it was. temporary: by default
    `temporary_beside(path)`. Raises OSError.
    """
    temporary = temporary_beside(path) if temporary is None else temporary
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with suppress(OSError):
            remove(temporary)


def temporary_beside(path: Path) -> Path:
    """The path of a temporary file or folder in the same folder: what a killed process left there is overwritten."""
    return path.with_name(f".{path.name}.tmp")


@contextmanager
def open_durable(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing, and flush it to the disk itself when the block ends. Raises OSError."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk itself."""
    if os.name == "posix":  # elsewhere a folder cannot be opened
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def replace(new: Path, path: Path) -> None:
    """Rename `new` to `path`, either of them a file or a folder.

    Only folders take two steps; after a kill between them `recover` restores the old one. Raises OSError.
    """
    if not new.is_dir() and not path.is_dir():
        new.replace(path)
        return
    old = _set_aside(path)
    remove(old)
    if path.exists():
        path.rename(old)
    new.rename(path)
    remove(old)


def recover(path: Path) -> None:
    """Restore what an interrupted `replace` had set aside. Any number of processes may call it at once."""
    if not path.exists() and _set_aside(path).exists():
        with suppress(FileNotFoundError):  # another process was first
            _set_aside(path).rename(path)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _set_aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")
