"""A run's model and other codecs on the run's validation files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_adapters import Adapter, ByteStream, MediaError
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
    bits_per_byte,
    check_finite,
    content_of,
    score_streams,
)
from megabyte_mm.plots.html_elements import Budget, element, media_kind
from megabyte_mm.plots.report_page import CodecRow, FileComparison, FileFigure
from megabyte_mm.progress import progress

MIN_FILES = 6
"""With fewer files than this, passages of them are compared."""
ENDS = {"image": 6, "audio": 3, "text": 2}
"""Number of best, and of worst, files that are shown, by their kind."""
NOTES = """\
Every figure is bits over the same bytes: those that the model reads of these files, decoded. They are the pixels of \
a picture at the size that the run converts pictures to, the samples of a sound in the run's encoding, the bytes of a \
text.
The model's bits are the sum of -log2 of the probability of each byte, and of the end where a file ends inside a \
window, by the method {method}. Its weights are not counted, and it has learned from other files of the same kind; \
the codecs have not.
Each file is encoded by itself, headers included, and the sizes are summed before they are divided. Codecs that learn \
as they go do badly on small files, so codecs of bytes also encode all files joined into one.
PNG, WebP and JPEG XL encode the pixels, FLAC the samples (8 bits each where the run's encoding is pcm8, else 16), and \
xz, zstd and brotli the bytes in the order in which the model reads them.
All encoded files were decoded again and compared with the input."""
"""One note a line."""


class MeasurementSettings(NamedTuple):
    """The files and bytes to measure of each source at most, and how the model reads them."""

    files: int
    bytes: int
    batch_size: int
    method: Method


@dataclass(frozen=True)
class ValidationFiles:
    """The measured validation files of a source.

    name: of the source in a mix, else "". unit: bytes that stay together. names, streams, conditions: of each file.
    available: number of files of the source. num_cut: number of streams that are only the first part of their file.
    """

    name: str
    adapter: Adapter
    unit: int
    names: Sequence[str]
    streams: Sequence[ByteStream]
    conditions: Sequence[int]
    available: int
    num_cut: int

    @property
    def num_bytes(self) -> int:
        """Bytes of all streams."""
        return sum(len(stream.data) for stream in self.streams)

    @property
    def summary(self) -> str:
        """Number and size of the files, in a sentence."""
        count, size = len(self.streams), f"{self.num_bytes:,} bytes"
        if self.available == 1:
            return f"The {'first part of the ' if self.num_cut else ''}only validation file: {size}."
        chosen = f"All {count:,}" if count == self.available else f"{count:,} of {self.available:,}"
        spacing = "" if count == self.available else ", evenly spaced"
        cut = f", of {self.num_cut:,} the first part only" if self.num_cut else ""
        return f"{chosen} validation files{spacing}{cut}: {size}."


def choose_files(data: ByteData, bundle: Bundle, settings: MeasurementSettings) -> list[ValidationFiles]:
    """Choose validation files within the limits from each source of open data; sources without a byte are left out."""
    chosen = [
        _choose(source, records, data.geometry.conditions, bundle, settings)
        for source, records in zip(data.sources, data.records("val"), strict=True)
        if source.name in bundle.alone or not source.name
    ]
    return [files for files in chosen if files.streams]


def _choose(
    source: OpenSource, records: Records, conditions: Sequence[str], bundle: Bundle, settings: MeasurementSettings
) -> ValidationFiles:
    available = int(np.count_nonzero(records.lengths))
    count = min(settings.files, available)
    if source.adapter.single_window and count:
        count = min(count, max(1, settings.bytes // int(records.lengths[records.lengths > 0].mean())))
    chosen = records.evenly_spaced(count)
    window = bundle.for_modality(source.name).window if source.name else bundle.window
    max_bytes = max(settings.bytes // max(count, 1), window)
    whole = [records.stream(record) for record in chosen]
    streams = whole if source.adapter.single_window else [_first_part(source, stream, max_bytes) for stream in whole]
    classes = [conditions[int(records.conditions[record])] for record in chosen]
    return ValidationFiles(
        source.name,
        source.adapter,
        source.unit,
        [records.name(record) for record in chosen],
        streams,
        [bundle.conditions.index(name) if name in bundle.conditions else 0 for name in classes],
        available,
        sum(len(file.data) > len(part.data) for file, part in zip(whole, streams, strict=True)),
    )


def _first_part(source: OpenSource, stream: ByteStream, max_bytes: int) -> ByteStream:
    if len(stream.data) <= max_bytes:
        return stream
    return ByteStream(source.adapter.cut_to_units(stream.data, max_bytes, source.unit), stream.format)


def score_validation_files(
    bundle: Bundle, files: ValidationFiles, settings: MeasurementSettings, on_bytes: Callable[[int], None]
) -> list[Score]:
    """Return the score of each file. Raises ValueError as `score_streams`, and for an output that is not finite."""
    selected = bundle.for_modality(files.name) if files.name else bundle
    streams = [(stream.data, number) for stream, number in zip(files.streams, files.conditions, strict=True)]
    options = (selected.window, files.unit, selected.fixed_length, settings.method, settings.batch_size, on_bytes)
    scores = list(score_streams(selected.model, streams, *options))
    check_finite(scores)
    return scores


def compare_files(files: ValidationFiles, scores: Sequence[Score], window: int, budget: Budget) -> FileComparison:
    """Encode the files with other codecs, and show the best and the worst. Raises LossyError."""
    model = CodecRow("this model", "its weights not counted", bits_per_byte(scores), is_model=True)
    rows = sorted([model, *codec_rows(files)], key=lambda row: (row.each is None, row.each or 0))
    ranked = _rank(files, scores, window)
    count = min(ENDS[media_kind(files.adapter.output_suffix)], len(ranked) // 2)
    best = [_figure(files.adapter, piece, budget) for piece in ranked[:count]]
    worst = [_figure(files.adapter, piece, budget) for piece in ranked[::-1][:count]]
    noun = "files" if len(ranked) == len(files.streams) else "passages"
    return FileComparison(files.name, files.summary, rows, best, worst, noun)


def codec_rows(files: ValidationFiles, codecs: Sequence[Codec] = CODECS) -> list[CodecRow]:
    """Measure each codec of such files; a codec that fails has no figure, and a note that says why."""
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


class _Piece(NamedTuple):
    """A file, or a passage of one, and its bits per byte."""

    name: str
    stream: ByteStream
    bits: float


def _rank(files: ValidationFiles, scores: Sequence[Score], window: int) -> list[_Piece]:
    """Return the files by bits per byte, the lowest first; where they are few, passages of a window's length."""
    pieces = [
        _Piece(name, stream, score.bits_per_byte)
        for name, stream, score in zip(files.names, files.streams, scores, strict=True)
    ]
    if not files.adapter.single_window and len(pieces) < MIN_FILES:
        pairs = zip(pieces, scores, strict=True)
        pieces = [passage for piece, score in pairs for passage in _passages(piece, score, window)]
    return sorted(pieces, key=lambda piece: (piece.bits, piece.name))


def _passages(file: _Piece, score: Score, window: int) -> Iterator[_Piece]:
    data, bits = file.stream.data, score.bits
    for start in range(0, len(data) - window // 2, window):
        part = data[start : start + window]
        mean = float(bits[start : start + len(part)].mean())
        yield _Piece(f"{file.name}, from byte {start:,}", ByteStream(part, file.stream.format), mean)


def _figure(adapter: Adapter, piece: _Piece, budget: Budget) -> FileFigure:
    try:
        content, suffix = _as_file(adapter, piece.stream)
    except MediaError as error:
        content, suffix = error.reason.encode(), ""
    return FileFigure(piece.name, element(content, suffix, piece.name, budget), media_kind(suffix), piece.bits)


def _as_file(adapter: Adapter, stream: ByteStream) -> tuple[bytes, str]:
    """Return the content of the stream's file, and its suffix. Raises MediaError where it cannot be written."""
    suffix = str(stream.format.get("suffix", adapter.output_suffix))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"file{suffix}")
        adapter.write(stream, path)
        return path.read_bytes(), suffix
