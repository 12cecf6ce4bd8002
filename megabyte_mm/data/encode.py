"""Encodes files into shards, in one process or several, in the order of the files: the result is always the same."""

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

from data_adapters import TextAdapter, printable, registry
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
"""Files of a task, at most: small files cost more to hand over than to read, large ones cost memory."""
_AHEAD = 2
"""Tasks in progress for each process: their streams wait in memory for their turn."""


class Outcome(NamedTuple):
    """A file's stream, or the reason why it has none. unchanged: since its digest was taken."""

    stream: ByteStream | str
    unchanged: bool


def encode(files: Files, digests: Sequence[Digest], writer: ShardWriter, workers: int = 1) -> list[str]:
    """Add to the writer the files that it lacks, and return the sha256 of each, or CHANGED.

    workers: number of processes. A file that the adapter cannot read, or that changes meanwhile, is skipped. Raises
    UnavailableError for a file that cannot be read temporarily, OSError where one of the processes dies.
    """
    start = writer.files
    contents = []
    names, digests = files.names[start:], digests[start:]
    with closing(_outcomes(files, names, digests, workers)) as outcomes:
        for name, digest, outcome in zip(progress(names, "encoding files"), digests, outcomes, strict=True):
            contents.append(digest.sha256 if outcome.unchanged else CHANGED)
            stream = outcome.stream if outcome.unchanged else CHANGED
            if isinstance(stream, str):
                writer.skip(name, stream)
            else:
                writer.add(name, stream, files.adapter.name)
    return contents


def finish_index(writer: ShardWriter, files: Files, key: str) -> bytes:
    """The index of files that were all added, whose `key_of` is `key`.

    Raises FieldError, with the first reasons, where none could be read.
    """
    keys = {} if files.keys is None else {"keys": dict(files.keys)}
    index = writer.finish(adapter=registry.spec(files.adapter), unused=files.unused, source=key, **keys)
    if not any(manifest.names for manifest in writer.manifests):
        skipped = [entry for manifest in writer.manifests for entry in manifest.skipped]
        raise FieldError("path", f"{files.root}: none of the files can be read: {first_reasons(skipped)}")
    return index


def key_of(files: Files, contents: Sequence[str]) -> str:
    """A hash of the files' names, their contents, and the adapter that encodes them."""
    content = [VERSION, registry.spec(files.adapter), list(zip(files.names, contents, strict=True))]
    content += _own_code(files.adapter)
    if files.keys is not None:
        content.append(dict(files.keys))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def first_reasons(skipped: Sequence[dict[str, str]], count: int = 3) -> str:
    """The first skipped files and their reasons, in one line."""
    shown = "; ".join(printable(f"{entry['path']}: {entry['reason']}") for entry in skipped[:count])
    return shown + ("; ..." if len(skipped) > count else "")


def _own_code(adapter: Adapter) -> list[str]:
    """Class and module digest of a user's own adapter: after an edit of its `read`, files are encoded again."""
    adapter_class = type(adapter)
    if adapter_class.__module__.partition(".")[0] == "data_adapters":
        return []
    source = getattr(sys.modules.get(adapter_class.__module__), "__file__", None)  # none in a notebook
    code = Path(source).read_bytes() if source else b""
    return [f"{adapter_class.__module__}.{adapter_class.__qualname__}", hashlib.sha256(code).hexdigest()]


def _outcomes(files: Files, names: Sequence[str], digests: Sequence[Digest], workers: int) -> Generator[Outcome]:
    if files.texts is not None:
        assert isinstance(files.adapter, TextAdapter)
        yield from (Outcome(files.adapter.stream_of(files.texts[name]), unchanged=True) for name in names)
        return
    paths = [files.path(name) for name in names]
    if workers < 2 or len(paths) < 2:
        yield from map(_read, [files.adapter] * len(paths), paths, digests)
        return
    # Spawned, since a fork copies the locks of threads that it does not copy.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_follow_parent)
    tasks = _tasks(paths, digests)
    running: deque[tuple[Future[list[Outcome]], Path]] = deque()
    try:
        while True:
            for task_paths, task_digests in islice(tasks, workers * _AHEAD - len(running)):
                running.append((pool.submit(_read_batch, files.adapter, task_paths, task_digests), task_paths[0]))
            if not running:
                return
            yield from _result(*running.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent process, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _tasks(paths: Sequence[Path], digests: Sequence[Digest]) -> Iterator[tuple[Sequence[Path], Sequence[Digest]]]:
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
            f"{first} or one of the files after it: the process that read it was killed, perhaps for lack of memory; "
            "run the same command again with fewer workers to continue"
        ) from error


def _read_batch(adapter: Adapter, paths: Sequence[Path], digests: Sequence[Digest]) -> list[Outcome]:
    return list(map(_read, [adapter] * len(paths), paths, digests))


def _read(adapter: Adapter, path: Path, digest: Digest) -> Outcome:
    stream: ByteStream | str
    try:
        refuse_special(path)  # a user's own adapter might block
        stream = adapter.read(path)
    except UnavailableError:
        raise  # left out, it would be missing for good: the cache is keyed by the files' content alone
    except MediaError as error:
        stream = error.reason
    except OSError as error:
        if is_transient(error):
            raise UnavailableError(path, f"cannot be read: {error.strerror}") from error
        stream = error.strerror or str(error)
    return Outcome(stream, digest.is_of(path))


def processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
