"""The bits of a file: per byte, beside other lossless coders, and over its pixels, samples or characters."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field, replace

from data_adapters import ByteStream, TextAdapter, printable
from megabyte_mm.app.playground import Job, Playground
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.evaluation import (
    CODECS,
    UnsupportedError,
    check_finite,
    content_of,
    heatmap,
    score_streams,
)
from megabyte_mm.evaluation.heatmaps import split_end

CODEC_NAMES = ("PNG", "FLAC", "xz")
"""The coders that everybody has; `megabyte-mm report` compares more."""


@dataclass(frozen=True)
class Bits:
    """Bits of a file.

    name: of the file. size: bytes that are measured. model: bits per byte. codecs: those of other coders on the same
    bytes, headers included. note: what was left out, "" for nothing. picture: the heatmap as a PNG; page: that of a
    text as HTML.
    """

    name: str
    size: int
    model: float
    codecs: dict[str, float] = field(default_factory=dict)
    note: str = ""
    picture: bytes = b""
    page: str = ""


def measure(playground: Playground, job: Job, with_heatmap: bool = True) -> Bits:
    """Measure the file or text of a job. Raises ValueError where the model does not score it by itself."""
    bundle = _bundle(playground, job)
    stream = playground.stream(bundle, job)
    name = printable(job.file_name)
    scored, note = _shortened(bundle, stream, playground.limits.scored_bytes)
    if not len(scored.data):
        raise ValueError(f"{name}: is empty; there is no byte to measure")
    unit = bundle.adapter.unit_in(scored.format)
    window = max(bundle.window // unit, 1) * unit
    pairs = [(scored.data, _condition(bundle, job))]
    [score] = score_streams(bundle.model, pairs, window, unit, bundle.fixed_length, batch_size=4)
    check_finite([score])
    bits = Bits(name, len(scored.data), score.bits_per_byte, _codecs(bundle, scored), note)
    if not with_heatmap:
        return bits
    if isinstance(bundle.adapter, TextAdapter):
        from megabyte_mm.plots import text_page

        byte_bits, end_bits = split_end(scored, score.bits)
        return replace(bits, page=text_page(scored.data.tobytes(), byte_bits, name, end_bits))
    picture = io.BytesIO()
    heatmap(bundle.adapter, scored, score.bits, name).savefig(picture, format="png")
    return replace(bits, picture=picture.getvalue())


def _bundle(playground: Playground, job: Job) -> Bundle:
    """The model for the modality of the job's file or text; a condition that is an order of parts does not count."""
    bundle = playground.bundle
    if not bundle.reads_records:
        return playground.select(job)
    name = playground.part(job)
    if name not in bundle.alone:
        raise ValueError(f"this model reads {name} only in records of several parts, and does not measure it alone")
    return bundle.for_modality(name)


def _condition(bundle: Bundle, job: Job) -> int:
    return bundle.condition_number(None if bundle.modality_name else job.condition or None)


def _shortened(bundle: Bundle, stream: ByteStream, limit: int) -> tuple[ByteStream, str]:
    """The stream, up to the limit where it may be cut, and a note where it was."""
    if bundle.adapter.single_window or len(stream.data) <= limit:
        return stream, ""
    data = bundle.adapter.cut_to_units(stream.data, limit, bundle.adapter.unit_in(stream.format))
    return ByteStream(data, stream.format), f"the first {len(data):,} of {len(stream.data):,} bytes"


def _codecs(bundle: Bundle, stream: ByteStream) -> dict[str, float]:
    content = content_of(bundle.adapter, stream)
    rates = {}
    for codec in CODECS:
        if codec.name in CODEC_NAMES:
            try:
                rates[codec.name] = codec.bits_per_byte([content])
            except UnsupportedError:
                continue
    return {name: rate for name, rate in rates.items() if math.isfinite(rate)}
