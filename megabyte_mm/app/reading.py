"""Uploaded files as streams, read by the adapters in a process of their own, with limits of time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from data_adapters import Adapter, ByteStream, ImageAdapter, MediaError
from megabyte_mm.app.limits import Limits
from megabyte_mm.app.reader_process import question_for

KEPT_BYTES = 64 * 2**20
"""Streams of the latest files are kept up to this size: the page asks for a file again whenever a slider moves."""
FILES_OF_A_PROCESS = 200
"""Files after which a new process reads, so that memory that a decoder never frees does not add up."""


class Reader:
    """Reads files for several threads, one after the other.

    The process starts with the first file, and again after one that crashes it, takes too long or too much memory.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._read = 0
        self._streams: OrderedDict[str, ByteStream] = OrderedDict()

    def read(self, adapter: Adapter, path: str | os.PathLike[str]) -> ByteStream:
        """Return the file as a stream, its end left out beyond the limit. Raises MediaError where it is refused."""
        path, adapter = Path(path), self._limited(adapter)
        try:
            size = path.stat().st_size
        except OSError as error:
            raise MediaError(path.name, f"cannot be read: {error.strerror}") from error
        if size > self._limits.upload_megabytes * 10**6:
            raise MediaError(path.name, f"has {size:,} bytes; at most {self._limits.upload_megabytes} MB can be used")
        asked = question_for(path, adapter, self._limits.stream_bytes)
        key = json.dumps([asked, size, path.stat().st_mtime_ns])
        with self._lock:
            if key in self._streams:
                self._streams.move_to_end(key)
                return self._streams[key]
            stream = self._ask(path, adapter, asked)
            self._keep(key, stream)
        return stream

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._stop()

    def _limited(self, adapter: Adapter) -> Adapter:
        """The adapter with the limit on pixels."""
        if not isinstance(adapter, ImageAdapter) or type(adapter) is not ImageAdapter:
            return adapter
        pixels = min(adapter.max_pixels or self._limits.pixels, self._limits.pixels)
        return ImageAdapter(**(adapter.settings() | {"max_pixels": pixels}))

    def _ask(self, path: Path, adapter: Adapter, asked: dict[str, Any]) -> ByteStream:
        if self._process is None or self._process.poll() is not None or self._read >= FILES_OF_A_PROCESS:
            self._stop()
            self._start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        # The process is killed when its time is over; reading its answer then ends at once.
        is_late = threading.Event()
        timer = threading.Timer(self._limits.reading_seconds, _kill, (process, is_late.set))
        timer.start()
        try:
            process.stdin.write(json.dumps(asked).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
            answer = json.loads(line) if line else {}
            data = process.stdout.read(answer.get("bytes", 0))
        except (OSError, ValueError):
            answer, data = {}, b""
        finally:
            timer.cancel()
        self._read += 1
        if "refused" in answer:
            raise MediaError(path.name, str(answer["refused"]))
        if "format" not in answer or len(data) != answer["bytes"]:
            self._stop()
            reason = f"took more than {self._limits.reading_seconds:g} seconds to read" if is_late.is_set() else ""
            raise MediaError(path.name, reason or "cannot be decoded: its decoder crashed, or needs too much memory")
        notes = tuple(answer["notes"])
        if len(data) < answer["whole"]:
            notes += (f"only its first {len(data):,} of {answer['whole']:,} bytes are used",)
        return ByteStream(np.frombuffer(data, np.uint8), answer["format"], notes)

    def _keep(self, key: str, stream: ByteStream) -> None:
        self._streams[key] = stream
        while sum(len(kept.data) for kept in self._streams.values()) > KEPT_BYTES or len(self._streams) > 256:
            self._streams.popitem(last=False)

    def _start(self) -> None:
        self._read = 0
        command = [sys.executable, "-P", "-m", "megabyte_mm.app.reader_process", str(self._limits.reading_megabytes)]
        # Threads of linear algebra, which no decoder uses, would each reserve memory.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        # It finds the modules that this process finds, and no others.
        environment["PYTHONPATH"] = os.pathsep.join(str(Path(folder).absolute()) for folder in sys.path)
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, env=environment, **pipes)

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self._process = None


def _kill(process: subprocess.Popen[bytes], on_kill: Callable[[], None]) -> None:
    on_kill()
    process.kill()
