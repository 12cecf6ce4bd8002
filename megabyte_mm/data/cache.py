"""Every file is encoded once: shard folders in a cache, named by the content of the files and the adapter's settings.

A folder is filled under a temporary name and renamed into place, so it is whole or not there. Of two processes that
encode the same files, the one that renames first wins and the other uses its folder. What a killed process leaves is a
temporary folder, which names its host and process and is removed by a later run.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import sys
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from data_adapters import registry
from data_adapters.base import Adapter, ByteStream, MediaError
from megabyte_mm.data.digests import Digest, file_digests
from megabyte_mm.data.files import Files
from megabyte_mm.data.progress import progress
from megabyte_mm.data.shards import VERSION, DamagedShardsError, ShardReader, ShardWriter

_TEMPORARY = ".encoding"
_DAY = 86_400
_CHANGED = "changed while it was read"


def cache_folder(cache_dir: str | None = None) -> Path:
    """`cache_dir`, else $MEGABYTE_MM_CACHE, else ~/.cache/megabyte-mm."""
    chosen = cache_dir or os.environ.get("MEGABYTE_MM_CACHE") or "~/.cache/megabyte-mm"
    return Path(chosen).expanduser()


def encoded(files: Files, cache_dir: str | None = None) -> ShardReader:
    """The streams of all files, from the cache or encoded into it; a damaged cache entry is made anew.

    A file that the adapter cannot read, or that changes meanwhile, is left out and listed in `about["skipped"]` of the
    result as {path, reason}; `about["notes"]` counts the conversions by kind, `about["clipped"]` lists the files that
    lost range. Raises ValueError, with the first reasons, where not one file can be read.
    """
    home = cache_folder(cache_dir)
    home.mkdir(parents=True, exist_ok=True)
    digests = _digests(files, home)
    folder = home / _key(files, [digest.sha256 for digest in digests])
    if (reader := _opened(folder)) is not None:
        return reader
    _sweep(home)
    temporary = home / f"{_TEMPORARY}@{socket.gethostname()}@{os.getpid()}@{uuid.uuid4().hex}"
    temporary.mkdir()
    try:
        contents = _fill(temporary, files, digests)
        return _publish(temporary, home / _key(files, contents))
    except OSError as error:  # one of writing does not name the file
        raise OSError(error.errno, error.strerror, error.filename or str(home)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _digests(files: Files, home: Path) -> list[Digest]:
    root = hashlib.sha256(os.fsencode(files.root.resolve())).hexdigest()
    return file_digests([files.root / name for name in files.names], home / "digests" / f"{root[:16]}.json")


def _key(files: Files, contents: Sequence[str]) -> str:
    content = [VERSION, registry.spec(files.adapter), list(zip(files.names, contents, strict=True))]
    content += _own_code(files.adapter)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _own_code(adapter: Adapter) -> list[str]:
    """Class and module digest of a user's own adapter: an edited `read` must not be given what the old one read."""
    own = type(adapter)
    if own.__module__.partition(".")[0] == "data_adapters":
        return []
    source = getattr(sys.modules.get(own.__module__), "__file__", None)  # none in a notebook
    code = Path(source).read_bytes() if source else b""
    return [f"{own.__module__}.{own.__qualname__}", hashlib.sha256(code).hexdigest()]


def _opened(folder: Path) -> ShardReader | None:
    try:
        return ShardReader(folder)
    except DamagedShardsError:
        return None


def _fill(folder: Path, files: Files, digests: Sequence[Digest]) -> list[str]:
    """Encode the files; gives what each was made of: its sha256, or that it changed."""
    contents = []
    skipped: list[dict[str, str]] = []
    clipped: list[dict[str, str]] = []
    notes: Counter[str] = Counter()
    with closing(ShardWriter(folder)) as writer:
        for name, digest in zip(progress(files.names, "encoding files"), digests, strict=True):
            stream = _read(files.adapter, files.root / name)
            unchanged = digest.is_of(files.root / name)
            contents.append(digest.sha256 if unchanged else _CHANGED)
            if not unchanged:
                stream = _CHANGED
            if isinstance(stream, str):
                skipped.append({"path": name, "reason": stream})
                continue
            writer.add(name, stream, files.adapter.name)
            notes.update(re.sub(r"\d+(\.\d+)?", "#", note) for note in stream.notes)
            clipped += [{"path": name, "note": note} for note in stream.notes if "clip" in note]
        if not len(writer):
            raise ValueError(f"data.path {files.root}: not one file can be read: {first_reasons(skipped)}")
        writer.finish(adapter=registry.spec(files.adapter), skipped=skipped, clipped=clipped, notes=notes)
    return contents


def _read(adapter: Adapter, path: Path) -> ByteStream | str:
    """The file's stream, or the reason why there is none."""
    try:
        return adapter.read(path)
    except MediaError as error:
        return error.reason
    except OSError as error:
        return error.strerror or str(error)


def first_reasons(skipped: list[dict[str, str]], count: int = 3) -> str:
    """The first skipped files and why, in one line."""
    shown = "; ".join(f"{entry['path']}: {entry['reason']}" for entry in skipped[:count])
    return shown + ("; ..." if len(skipped) > count else "")


def _publish(temporary: Path, folder: Path) -> ShardReader:
    """Rename into place; where a sound folder is there already, somebody else was faster, and a damaged one goes."""
    _sync_folder(temporary)
    while True:
        try:
            temporary.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if (winner := _opened(folder)) is not None:
                return winner
            aside = temporary.with_name(f"{temporary.name}-{uuid.uuid4().hex}")
            with suppress(FileNotFoundError):
                folder.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            _sync_folder(folder.parent)
            return ShardReader(folder)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _sweep(home: Path) -> None:
    """Remove the temporary folders of dead processes of this host, and those older than a day."""
    for folder in home.glob(f"{_TEMPORARY}@*"):
        _, host, pid, _ = folder.name.split("@", 3)
        with suppress(FileNotFoundError):
            old = time.time() - folder.stat().st_mtime > _DAY
            if old or (host == socket.gethostname() and not _alive(int(pid))):
                shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: int) -> bool:
    if os.name != "posix":  # there is no harmless signal to ask with
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
