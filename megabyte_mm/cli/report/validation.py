"""The validation files of a run: found as the run itself found them, scored, and given to other coders."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_adapters import Adapter, ByteStream
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.data.module import ByteData
from megabyte_mm.data.records import Records
from megabyte_mm.data.sources import OpenSource
from megabyte_mm.evaluation import (
    CODECS,
    Codec,
    Content,
    Method,
    Score,
    UnsupportedError,
    check_finite,
    content_of,
    score_streams,
)
from megabyte_mm.plots.report_page import CodecRow
from megabyte_mm.progress import progress


@dataclass(frozen=True)
class ValidationFiles:
    """What of a source's validation files is measured.

    names, streams, conditions: of each. of: files that there are. cut: how many streams are only the beginning of
    theirs. name: of the source in a mix, else "".
    """

    name: str
    adapter: Adapter
    unit: int
    names: Sequence[str]
    streams: Sequence[ByteStream]
    conditions: Sequence[int]
    of: int
    cut: int

    @property
    def told(self) -> str:
        """Which files these are, in a sentence."""
        count, size = len(self.streams), sum(len(stream.data) for stream in self.streams)
        if self.of == 1:
            return f"The {'beginning of the ' if self.cut else ''}only validation file: {size:,} bytes."
        which = f"all {count:,}" if count == self.of else f"{count:,} of {self.of:,}"
        spread = "" if count == self.of else ", evenly spread"
        cut = f", of {self.cut:,} the beginning only" if self.cut else ""
        return f"{which[0].upper()}{which[1:]} validation files{spread}{cut}: {size:,} bytes."


class Piece(NamedTuple):
    """A file, or a passage of one, and what it cost the model."""

    name: str
    stream: ByteStream
    bits: float


def choose_files(data: ByteData, bundle: Bundle, files: int, most_bytes: int) -> list[ValidationFiles]:
    """At most `files` of each source's validation files, of about `most_bytes` in all; data must be open."""
    return [
        _chosen(source, records, data.geometry.conditions, bundle, files, most_bytes)
        for source, records in zip(data.sources, data.records("val"), strict=True)
    ]


def _chosen(
    source: OpenSource, records: Records, conditions: Sequence[str], bundle: Bundle, files: int, most_bytes: int
) -> ValidationFiles:
    filled = np.flatnonzero(records.lengths)
    count = min(files, len(filled))
    if source.adapter.single_window and count:
        count = min(count, max(1, most_bytes // int(records.lengths[filled].mean())))
    chosen = filled[np.arange(count) * len(filled) // max(count, 1)].tolist()
    most = max(most_bytes // max(count, 1), bundle.window)
    streams = [records.stream(record) for record in chosen]
    kept = streams if source.adapter.single_window else [_beginning(source, stream, most) for stream in streams]
    numbers = [conditions[int(records.conditions[record])] for record in chosen]
    return ValidationFiles(
        source.name,
        source.adapter,
        source.unit,
        [records.name(record) for record in chosen],
        kept,
        [bundle.conditions.index(name) if name in bundle.conditions else 0 for name in numbers],
        len(filled),
        sum(len(whole.data) > len(part.data) for whole, part in zip(streams, kept, strict=True)),
    )


def _beginning(source: OpenSource, stream: ByteStream, most: int) -> ByteStream:
    if len(stream.data) <= most:
        return stream
    return ByteStream(source.adapter.cut_to_units(stream.data, most, source.unit), stream.format)


def score_validation_files(
    bundle: Bundle, files: ValidationFiles, method: Method, batch_size: int, on_bytes: Callable[[int], None]
) -> list[Score]:
    """The score of each file. Raises ValueError as `score_streams`, and for a model whose output is not finite."""
    one = bundle.for_modality(files.name) if files.name else bundle
    streams = [(stream.data, number) for stream, number in zip(files.streams, files.conditions, strict=True)]
    scores = list(
        score_streams(one.model, streams, bundle.window, files.unit, one.fixed_length, method, batch_size, on_bytes)
    )
    check_finite(scores)
    return scores


def pieces(files: ValidationFiles, scores: Sequence[Score], window: int) -> list[Piece]:
    """The files with what each cost, the cheapest first; where they are too few to compare, passages of a window."""
    whole = files.adapter.single_window or len(files.streams) >= FEW
    found = [
        Piece(name, stream, score.bits_per_byte)
        for name, stream, score in zip(files.names, files.streams, scores, strict=True)
    ]
    if not whole:
        found = [
            passage for file, score in zip(found, scores, strict=True) for passage in _passages(file, score, window)
        ]
    return sorted(found, key=lambda piece: (piece.bits, piece.name))


FEW = 6
"""With fewer files than this, passages of them are compared."""


def _passages(file: Piece, score: Score, window: int) -> Iterator[Piece]:
    data, bits = file.stream.data, score.bits
    for start in range(0, len(data) - window // 2, window):
        part = data[start : start + window]
        mean = float(bits[start : start + len(part)].mean())
        yield Piece(f"{file.name}, from byte {start:,}", ByteStream(part, file.stream.format), mean)


def codec_rows(files: ValidationFiles, codecs: Sequence[Codec] = CODECS) -> list[CodecRow]:
    """Bits per byte of the files with each codec that supports them; without a figure where it failed, and why."""
    contents = [content_of(files.adapter, stream) for stream in files.streams]
    fitting = [codec for codec in codecs if getattr(contents[0], codec.input) is not None]
    return [_measure(codec, contents) for codec in progress(fitting, "measuring codecs")]


def _measure(codec: Codec, contents: Sequence[Content]) -> CodecRow:
    try:
        each = codec.bits_per_byte(contents)
        if len(contents) < 2 or codec.input != "data":
            return CodecRow(codec.name, codec.settings, each)
        joined = codec.joined_bits_per_byte([content.data for content in contents])
        return CodecRow(codec.name, codec.settings, each, joined)
    except UnsupportedError as error:
        return CodecRow(codec.name, f"left out: {error}", None)


def file_of(adapter: Adapter, stream: ByteStream) -> tuple[bytes, str]:
    """The stream as the content of a file, and the ending of its name. Raises MediaError where it cannot be written."""
    suffix = str(stream.format.get("suffix", adapter.output_suffix))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"file{suffix}")
        adapter.write(stream, path)
        return path.read_bytes(), suffix
