"""Reads files into shards in their order, by one process or by several, so that the result is always the same."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from data_adapters import printable, registry
from data_adapters.base import Adapter, ByteStream, MediaError
from data_adapters.io import UnavailableError, is_transient, refuse_special
from megabyte_mm.data.digests import Digest
from megabyte_mm.data.files import Files
from megabyte_mm.data.storage.shard_writer import ShardWriter
from megabyte_mm.data.storage.shards import VERSION
from megabyte_mm.errors import FieldError
from megabyte_mm.progress import progress

CHANGED = "changed while it was read"
_BATCH_FILES, _BATCH_BYTES = 16, 4 * 2**20
"""What a process is given at a time, at most: small files cost more to hand over than to read, large ones memory."""
_AHEAD = 2
"""Batches that wait or are read for each process: what has been read waits in memory for its turn."""


class Outcome(NamedTuple):
    """What came of reading a file: its stream, or why there is none. unchanged: since its digest was taken."""

    stream: ByteStream | str
    unchanged: bool


def encode(files: Files, digests: Sequence[Digest], writer: ShardWriter, workers: int = 1) -> list[str]:
    """Add to the writer the files that it has not yet; gives what each was made of: its sha256, or CHANGED.

    workers: processes that read. A file that the adapter cannot read, or that changes meanwhile, is left out and noted.
    Raises UnavailableError where the machine cannot read one just now, OSError where one of the processes dies.
    """
    begun = writer.files
    contents = []
    names, waiting = files.names[begun:], digests[begun:]
    with closing(_outcomes(files, names, waiting, workers)) as outcomes:
        for name, digest, outcome in zip(progress(names, "encoding files"), waiting, outcomes, strict=True):
            contents.append(digest.sha256 if outcome.unchanged else CHANGED)
            stream = outcome.stream if outcome.unchanged else CHANGED
            if isinstance(stream, str):
                writer.skip(name, stream)
            else:
                writer.add(name, stream, files.adapter.name)
    return contents


def finish_index(writer: ShardWriter, files: Files, key: str) -> bytes:
    """The index of files that were all added, and what `key_of` them is.

    Raises ValueError, with the first reasons, where none could be read.
    """
    index = writer.finish(adapter=registry.spec(files.adapter), unused=files.unused, source=key)
    if not any(part.names for part in writer.parts):
        skipped = [entry for part in writer.parts for entry in part.skipped]
        raise FieldError("path", f"{files.root}: not one file can be read: {first_reasons(skipped)}")
    return index


def key_of(files: Files, contents: Sequence[str]) -> str:
    """Changes with the names of the files, with what they are made of, and with what is made of them."""
    content = [VERSION, registry.spec(files.adapter), list(zip(files.names, contents, strict=True))]
    content += _own_code(files.adapter)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def first_reasons(skipped: Sequence[dict[str, str]], count: int = 3) -> str:
    """The first skipped files and why, in one line."""
    shown = "; ".join(printable(f"{entry['path']}: {entry['reason']}") for entry in skipped[:count])
    return shown + ("; ..." if len(skipped) > count else "")


def _own_code(adapter: Adapter) -> list[str]:
    """Class and module digest of a user's own adapter: an edited `read` must not be given what the old one read."""
    own = type(adapter)
    if own.__module__.partition(".")[0] == "data_adapters":
        return []
    source = getattr(sys.modules.get(own.__module__), "__file__", None)  # none in a notebook
    code = Path(source).read_bytes() if source else b""
    return [f"{own.__module__}.{own.__qualname__}", hashlib.sha256(code).hexdigest()]


def _outcomes(files: Files, names: Sequence[str], digests: Sequence[Digest], workers: int) -> Generator[Outcome]:
    paths = [files.root / name for name in names]
    if workers < 2 or len(paths) < 2:
        yield from map(_read, [files.adapter] * len(paths), paths, digests)
        return
    # Spawned, since a fork copies the locks of threads that it does not copy.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_follow_parent)
    batches = _batches(paths, digests)
    running: deque[tuple[Future[list[Outcome]], Path]] = deque()
    try:
        while True:
            for some, their in islice(batches, workers * _AHEAD - len(running)):
                running.append((pool.submit(_read_batch, files.adapter, some, their), some[0]))
            if not running:
                return
            yield from _result(*running.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _follow_parent() -> None:
    """Leave Ctrl-C to the process that collects, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _batches(paths: Sequence[Path], digests: Sequence[Digest]) -> Iterator[tuple[Sequence[Path], Sequence[Digest]]]:
    start = total = 0
    for i, digest in enumerate(digests):
        size = digest.stamp[0] if digest.stamp else 0
        if i > start and (i - start == _BATCH_FILES or total + size > _BATCH_BYTES):
            yield paths[start:i], digests[start:i]
            start, total = i, 0
        total += size
    yield paths[start:], digests[start:]


def _result(future: Future[list[Outcome]], first: Path) -> list[Outcome]:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise OSError(
            f"{first} or one of the files after it: the process that read it was killed, for want of memory perhaps; "
            "run the same command again, with fewer workers, and it goes on from where it was"
        ) from error


def _read_batch(adapter: Adapter, paths: Sequence[Path], digests: Sequence[Digest]) -> list[Outcome]:
    return list(map(_read, [adapter] * len(paths), paths, digests))


def _read(adapter: Adapter, path: Path, digest: Digest) -> Outcome:
    stream: ByteStream | str
    try:
        refuse_special(path)  # an adapter of a user's own might wait for ever
        stream = adapter.read(path)
    except UnavailableError:
        raise  # left out, it would be missing for good: what is encoded is known by the files' content alone
    except MediaError as error:
        stream = error.reason
    except OSError as error:
        if is_transient(error):
            raise UnavailableError(path, f"cannot be read: {error.strerror}") from error
        stream = error.strerror or str(error)
    return Outcome(stream, digest.is_of(path))


def processors() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
