"""Streams, states and bits as HTML for the page. What a user or a model wrote never becomes markup."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from data_adapters import Adapter, AudioAdapter, ByteStream, ImageAdapter, TextAdapter, printable
from megabyte_mm.app.bits import Bits
from megabyte_mm.app.generating import Piece, Progress
from megabyte_mm.app.playground import Given
from megabyte_mm.plots.html_elements import escaped, waveform

UNKNOWN = 128
"""Grey level of pixels that do not exist yet."""
MAX_SIDE = 384
"""Pixels of the longest side of a shown picture."""
TEXT_TAIL = 600
"""Bytes at the end of a text's prefix that are shown before its continuation."""
MAX_TEXT = 20_000
MAX_HEX = 512
"""Bytes of other files that are shown."""


def given_view(given: Sequence[Given]) -> str:
    """Return what was given as the model reads it, and the part of it that is kept."""
    if not given:
        return '<p class="mm-hint">Nothing is given: the model begins by itself.</p>'
    cells = []
    for one in given:
        kept = ByteStream(one.stream.data[: one.kept], one.stream.format)
        share = f"{one.kept:,} of {len(one.stream.data):,} bytes are kept"
        label = f"{one.name}: {share}" if one.name else share
        if isinstance(one.adapter, ImageAdapter):
            pictures = [("as the model reads it", one.stream), ("what is kept", kept)]
            shown = "".join(_figure(_picture(one.adapter, stream), name) for name, stream in pictures)
        elif isinstance(one.adapter, TextAdapter):
            shown = _text(one.stream.data.tobytes(), one.kept, tail=TEXT_TAIL)
        elif isinstance(one.adapter, AudioAdapter):
            shown = _wave(one.adapter, one.stream, one.kept) + _player(one.adapter, kept)
        else:
            shown = _bytes(one.stream.data.tobytes(), one.kept)
        notes = "".join(f"<li>{escape(printable(note))}</li>" for note in one.stream.notes)
        notes = f'<ul class="mm-notes">{notes}</ul>' if notes else ""
        cells.append(f'<div class="mm-given">{shown}</div><p class="mm-hint">{escape(printable(label))}</p>{notes}')
    return "".join(cells)


def samples_view(progress: Progress) -> str:
    """Return the continuations side by side; sounds get players once they are complete."""
    cells = []
    for number, pieces in enumerate(progress.samples, start=1):
        shown = "".join(_piece(piece, progress) for piece in pieces)
        cells.append(f'<div class="mm-sample"><div class="mm-number">{number}</div>{shown}</div>')
    kinds = {type(piece.adapter) for pieces in progress.samples for piece in pieces}
    wide = "" if kinds <= {ImageAdapter} else " mm-wide"
    return f'<div class="mm-samples{wide}">{"".join(cells)}</div>'


def status_view(progress: Progress) -> str:
    """Return the bytes so far, as a bar and in words."""
    rate = progress.generated / progress.seconds if progress.seconds else 0.0
    figures = f"{progress.generated:,} bytes in {progress.seconds:.1f} s ({rate:,.0f} bytes/s)"
    if progress.complete:
        return f'<p class="mm-status" data-state="complete">Generated {figures}.</p>'
    bar = f'<progress max="{max(progress.total, 1)}" value="{progress.generated}"></progress>'
    return f'<p class="mm-status" data-state="running">{bar} {figures}</p>'


def message(text: str) -> str:
    """Return a refusal or a mistake, in one line."""
    return f'<p class="mm-message" role="alert">{escape(printable(text))}</p>'


def bits_view(bits: Bits) -> str:
    """Return bits per byte as bars beside those of other coders, and the heatmap."""
    rows = {"this model": bits.model, **bits.codecs}
    top = max(rows.values()) or 1.0
    bars = "".join(
        f'<div class="mm-bar{" mm-own" if name == "this model" else ""}"><span>{name}</span>'
        f'<div><i style="width: {100 * value / top:.2f}%"></i></div><b>{value:.3f}</b></div>'
        for name, value in rows.items()
    )
    what = f"{bits.size:,} bytes" if not bits.note else bits.note
    note = f"{bits.name}: bits per byte of {what}, of 8 as they are; fewer are better. Other coders' headers count."
    if bits.page:
        style = f"height: {min(13 + bits.size / 25, 32):.0f}rem"
        title = "bits of each character"
        heat = f'<iframe class="mm-page" style="{style}" sandbox title="{title}" srcdoc="{escape(bits.page)}"></iframe>'
    else:
        image = f'<img src="{_uri(bits.picture, "image/png")}" alt="bits over {escape(bits.name)}">'
        heat = f'<div class="mm-heat">{image}</div>'
    return f'<div class="mm-bars">{bars}</div><p class="mm-hint">{escape(note)}</p>{heat}'


def _piece(piece: Piece, progress: Progress) -> str:
    name = f'<div class="mm-part">{escape(printable(piece.name))}</div>' if piece.name else ""
    if isinstance(piece.adapter, ImageAdapter):
        return name + _picture(piece.adapter, piece.stream)
    if isinstance(piece.adapter, TextAdapter):
        return name + _text(piece.stream.data.tobytes(), piece.kept, prefix_tail=TEXT_TAIL)
    if isinstance(piece.adapter, AudioAdapter):
        whole = _cut(piece.adapter, piece.stream)
        player = _player(piece.adapter, whole) if progress.complete else ""
        return name + _wave(piece.adapter, whole, piece.kept, marks_rest=False) + player
    return name + _bytes(piece.stream.data.tobytes(), piece.kept)


def _figure(shown: str, caption: str) -> str:
    return f"<figure>{shown}<figcaption>{escape(caption)}</figcaption></figure>"


def _picture(adapter: ImageAdapter, stream: ByteStream) -> str:
    pixels = adapter.pixels(stream, fill=UNKNOWN)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    width, height = image.size
    if max(width, height) > MAX_SIDE:
        image.thumbnail((MAX_SIDE, MAX_SIDE))
    output = io.BytesIO()
    image.save(output, "PNG", compress_level=1)
    return f'<img class="mm-picture" src="{_uri(output.getvalue(), "image/png")}" alt="{width}x{height} pixels">'


def _text(content: bytes, kept: int, tail: int | None = None, prefix_tail: int | None = None) -> str:
    """A text, its first `kept` bytes as a prefix. tail: bytes shown on each side of the end of the prefix."""
    first = max(0, kept - (tail or prefix_tail or kept))
    end = len(content) if tail is None else min(len(content), kept + tail)
    end = min(end, kept + MAX_TEXT)
    lead, more = "… " if first else "", " …" if end < len(content) else ""
    kinds = ("mm-prefix", "mm-rest" if tail else "mm-new")
    pieces = zip(kinds, (content[first:kept], content[kept:end]), strict=True)
    spans = "".join(f'<span class="{kind}">{escaped(piece)}</span>' for kind, piece in pieces)
    return f'<pre class="mm-text">{lead}{spans}{more}</pre>'


def _wave(adapter: AudioAdapter, stream: ByteStream, kept: int, marks_rest: bool = True) -> str:
    """The waveform; its first `kept` bytes are a prefix."""
    mono = adapter.frames(stream).mean(axis=1, dtype=np.float64) / 2**15
    loudest = max(float(np.abs(mono).max(initial=0)), 1 / 256)
    share = kept / max(len(stream.data), 1)
    kind = "mm-wave mm-cut" if marks_rest else "mm-wave"
    return f'<div class="{kind}">{waveform((mono / loudest).astype(np.float32), share)}</div>'


def _player(adapter: AudioAdapter, stream: ByteStream) -> str:
    if not len(stream.data):
        return '<p class="mm-hint">no sound</p>'
    return f'<audio controls preload="metadata" src="{_uri(file_content(adapter, stream), "audio/wav")}"></audio>'


def file_content(adapter: Adapter, stream: ByteStream) -> bytes:
    """The stream as the file that the adapter writes."""
    with TemporaryDirectory() as folder:
        file = Path(folder, f"a{adapter.output_suffix}")
        adapter.write(stream, file)
        return file.read_bytes()


def _bytes(content: bytes, kept: int) -> str:
    first = max(0, kept - MAX_HEX // 2)
    pieces = (("mm-prefix", content[first:kept]), ("mm-new", content[kept : kept + MAX_HEX]))
    spans = " ".join(f'<span class="{kind}">{piece.hex(" ")}</span>' for kind, piece in pieces if piece)
    return f'<pre class="mm-text mm-bytes">{"… " if first else ""}{spans}</pre>'


def _cut(adapter: Adapter, stream: ByteStream) -> ByteStream:
    """The whole frames of a stream."""
    data = adapter.cut_to_units(stream.data, len(stream.data), adapter.unit_in(stream.format))
    return ByteStream(data, stream.format)


def _uri(content: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
