"""Continuations as they are generated: what exists of each, several times a second, and the files at the end."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_adapters import Adapter, ByteStream, Format
from megabyte_mm.app.playground import Job, Playground
from megabyte_mm.generation import (
    CompletedRecord,
    Continuations,
    FirstParts,
    bytes_to_generate,
    new_bytes,
    stream_batch,
    stream_records,
    with_end,
    write_continuations,
    write_records,
)

INTERVAL = 0.25
"""Seconds between two states of the continuations."""


@dataclass(frozen=True)
class Piece:
    """A generated stream as far as it exists. name: of its modality or part. kept: the bytes that were given."""

    name: str
    adapter: Adapter
    stream: ByteStream
    kept: int = 0


@dataclass(frozen=True)
class Progress:
    """A state of a job.

    samples: the generated pieces of each continuation. generated: bytes so far; total: at most. seconds: since the
    start. complete: whether all are; only then there are files.
    """

    samples: list[list[Piece]]
    generated: int
    total: int
    seconds: float
    complete: bool = False
    files: tuple[Path, ...] = ()


class _FileRun:
    """A job for a model of files."""

    def __init__(self, playground: Playground, job: Job) -> None:
        self._job = job
        self._request, self._bundle = playground.continuations(job)
        self._rows = [bytearray(self._request.prefix.tobytes()) for _ in range(self._request.count)]
        self.total = self._request.length * self._request.count

    def steps(self) -> Iterator[int]:
        """Generate, and yield the number of new bytes of each step."""
        bundle = self._bundle
        sampling = with_end(self._job.sampling, bundle.adapter, [self._request])
        for batch, ids_BT in stream_batch(bundle.model, [self._request], sampling, self._job.seed):
            count = 0
            for row, ids_T in zip(batch, ids_BT, strict=True):
                new = new_bytes(ids_T).tobytes()
                self._rows[row.sample] += new
                count += len(new)
            yield count

    def samples(self) -> list[list[Piece]]:
        adapter, kept = self._bundle.adapter, len(self._request.prefix)
        streams = [_stream(row, self._request.format) for row in self._rows]
        return [[Piece(self._bundle.modality_name, adapter, stream, kept)] for stream in streams]

    def write(self, folder: Path) -> list[Path]:
        request = self._request
        rows = [_stream(row, request.format).data for row in self._rows]
        results = [Continuations(request.stem, request.format, request.prefix, rows, request.original)]
        return write_continuations(folder, self._bundle.adapter, results)


class _RecordRun:
    """A job for a model of records of several parts."""

    def __init__(self, playground: Playground, job: Job) -> None:
        self._bundle, self._job = playground.bundle, job
        self._request = playground.records(job)
        self._steps = stream_records(self._bundle, [self._request], job.sampling, job.seed, guidance=job.guidance)
        self._completed: list[CompletedRecord] = []
        begun = self._request.given[-1] if self._request.open else None
        self._kept = {} if begun is None else {self._request.generated[0]: begun}
        self._parts: list[dict[str, bytearray]] = [
            {name: bytearray(stream.data.tobytes()) for name, stream in self._kept.items()}
            for _ in range(self._request.count)
        ]
        self.total = bytes_to_generate(self._bundle, self._request) * self._request.count

    def steps(self) -> Iterator[int]:
        """Generate, and yield the number of new bytes of each step."""
        while True:
            try:
                step = next(self._steps)
            except StopIteration as stop:
                [self._completed] = stop.value
                return
            count = 0
            for record, ids_T in zip(step.records, step.symbols, strict=True):
                data = new_bytes(ids_T).tobytes()
                if data:
                    self._parts[record].setdefault(step.part, bytearray()).extend(data)
                    count += len(data)
            yield count

    def samples(self) -> list[list[Piece]]:
        if self._completed:
            return [[self._piece(name, record.parts[name]) for name in record.generated] for record in self._completed]
        return [
            [self._piece(name, _stream(data, self._format(name))) for name, data in parts.items()]
            for parts in self._parts
        ]

    def write(self, folder: Path) -> list[Path]:
        firsts = [FirstParts(self._job.stem, {})]
        written = write_records(folder, self._bundle, firsts, [self._request], [self._completed])
        return [file for file, _, _ in written]

    def _piece(self, name: str, stream: ByteStream) -> Piece:
        kept = len(self._kept[name].data) if name in self._kept else 0
        return Piece(name, self._bundle.modalities[name].adapter, stream, kept)

    def _format(self, name: str) -> Format:
        if name in self._kept:
            return self._kept[name].format
        return self._bundle.modalities[name].adapter.default_format()


def generate(
    playground: Playground, job: Job, folder: Path, interval: float = INTERVAL
) -> Generator[Progress, None, None]:
    """Yield the states of a job; the last one, complete, has written the files into a folder.

    Nothing is computed before the caller asks for the next state: closing the iterator cancels the job. Raises
    ValueError for a job that does not fit the model, MediaError for a file that is refused.
    """
    run = _RecordRun(playground, job) if playground.bundle.reads_records else _FileRun(playground, job)
    started = last = time.monotonic()
    generated = 0
    for count in run.steps():
        generated += count
        if (now := time.monotonic()) - last >= interval:
            last = now
            yield Progress(run.samples(), generated, run.total, now - started)
    files = tuple(run.write(folder))
    yield Progress(run.samples(), generated, run.total, time.monotonic() - started, True, files)


def _stream(data: bytearray, format: Format) -> ByteStream:
    return ByteStream(np.frombuffer(bytes(data), np.uint8), format)
