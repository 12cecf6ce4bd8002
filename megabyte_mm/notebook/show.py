"""Continuations and completed records side by side: figures, players, texts; and sliders for sampling."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from data_adapters import Adapter, AudioAdapter, Bytes, ByteStream, ImageAdapter, TextAdapter
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.generation import UNKNOWN, CompletedRecord, Continuations
from megabyte_mm.plots import picture_rows, waveforms

CELL = "vertical-align: top; text-align: left; padding: 0 1em 0.5em 0; max-width: 28em"
PLAYER = "width: 13em"
PICTURE = "width: 8em; image-rendering: pixelated"
PREFIX_STYLE, SAMPLE_STYLE = "opacity: 0.55", "font-weight: bold"
PREFIX_TAIL = 400
"""Characters at the end of a text's prefix that are shown."""


def show_pictures(adapter: ImageAdapter, rows: Mapping[str, Continuations]) -> Any:
    """Return a figure of prefix, continuations and original; a row for each name, such as a temperature."""

    def pixels(data: Bytes, item: Continuations) -> Bytes:
        return adapter.pixels(ByteStream(data, item.format), fill=UNKNOWN)

    pictures = {
        name: [pixels(data, item) for data in (item.prefix, *item.continuations, *_original(item))]
        for name, item in rows.items()
    }
    first = next(iter(rows.values()))
    titles = ["prefix", *_names(first), *(["original"] if first.original is not None else [])]
    return picture_rows(pictures, titles)


def show_waveforms(adapter: AudioAdapter, item: Continuations) -> Any:
    """Return a figure of the original and each continuation, with the prefix in grey; channels are averaged."""
    sounds = {name: adapter.frames(stream).mean(axis=1) for name, stream in _streams(item).items()}
    rate, prefix = int(item.format["rate"]), adapter.frames(ByteStream(item.prefix, item.format))
    return waveforms(sounds, rate, len(prefix) / rate)


def show_players(adapter: AudioAdapter, item: Continuations) -> Any:
    """Return audio players of the original and each continuation, side by side, as HTML."""
    from IPython.display import HTML

    return HTML(_table([{name: _player(adapter, stream) for name, stream in _streams(item).items()}]))


def show_texts(adapter: TextAdapter, item: Continuations) -> Any:
    """Return the end of the prefix, faint, and each continuation, bold, side by side, as HTML."""
    from IPython.display import HTML

    prefix = escape(adapter.decode(item.prefix)[-PREFIX_TAIL:])
    cells = {
        name: (
            f'<div style="white-space: pre-wrap; font-family: monospace"><span style="{PREFIX_STYLE}">{prefix}</span>'
            f'<span style="{SAMPLE_STYLE}">{escape(adapter.decode(data[len(item.prefix) :]))}</span></div>'
        )
        for name, data in zip(_names(item), item.continuations, strict=True)
    }
    return HTML(_table([cells]))


def show_records(bundle: Bundle, records: Sequence[Sequence[CompletedRecord]]) -> Any:
    """Return completed records as HTML, a row for each sequence: its given parts, then what each record adds to them.

    Raises ValueError for a part that is no picture, sound or text.
    """
    from IPython.display import HTML

    def cell(record: CompletedRecord, names: Sequence[str]) -> str:
        return "<br>".join(_part(bundle.modalities[name].adapter, record.parts[name]) for name in names)

    rows = [
        {
            "given": cell(row[0], [name for name in row[0].parts if name not in row[0].generated]),
            **{f"sample {number}": cell(record, record.generated) for number, record in enumerate(row, start=1)},
        }
        for row in records
        if row
    ]
    return HTML(_table(rows))


def show_continuations(adapter: Adapter, item: Continuations) -> Any:
    """Show pictures, players or texts, by the adapter. Raises ValueError for any other adapter."""
    if isinstance(adapter, ImageAdapter):
        return show_pictures(adapter, {"": item})
    if isinstance(adapter, AudioAdapter):
        return show_players(adapter, item)
    if isinstance(adapter, TextAdapter):
        return show_texts(adapter, item)
    raise ValueError(f"continuations of the {adapter.name} adapter cannot be shown, only of images, sound and text")


def embed_page(page: str, height: int = 420) -> Any:
    """Return a whole HTML page in a frame of that height in pixels, so that its styles do not affect the notebook."""
    from IPython.display import HTML

    style = f"width: 100%; height: {height}px; border: 1px solid #ccc"
    # IPython's IFrame takes only an address.
    return HTML(f'<div><iframe style="{style}" srcdoc="{escape(page)}"></iframe></div>')


def sampling_sliders(
    sample: Callable[[float, float, int], object], temperature: float = 1.0, top_p: float = 1.0
) -> Any:
    """Return a widget with sliders for temperature, top-p and seed, and a button that shows `sample` of their values.

    sample: (temperature, top_p, seed) -> an object to display. It runs when the button is pressed, since it is slow.
    """
    from ipywidgets import FloatSlider, IntSlider, interactive

    return interactive(
        sample,
        {"manual": True, "manual_name": "sample"},
        temperature=FloatSlider(temperature, min=0.0, max=1.5, step=0.05, continuous_update=False),
        top_p=FloatSlider(top_p, min=0.05, max=1.0, step=0.05, continuous_update=False),
        seed=IntSlider(0, min=0, max=20, continuous_update=False),
    )


def _part(adapter: Adapter, stream: ByteStream) -> str:
    """A picture, sound or text as an HTML element."""
    if isinstance(adapter, ImageAdapter):
        return _picture(adapter, stream)
    if isinstance(adapter, AudioAdapter):
        return _player(adapter, stream)
    if isinstance(adapter, TextAdapter):
        return f'<code style="white-space: pre-wrap">{escape(adapter.decode(stream.data))}</code>'
    raise ValueError(f"parts of the {adapter.name} adapter cannot be shown, only pictures, sound and text")


def _picture(adapter: ImageAdapter, stream: ByteStream) -> str:
    from PIL import Image

    pixels, output = adapter.pixels(stream, fill=UNKNOWN), io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(output, format="PNG")
    source = base64.b64encode(output.getvalue()).decode("ascii")
    return f'<img style="{PICTURE}" src="data:image/png;base64,{source}">'


def _player(adapter: AudioAdapter, stream: ByteStream) -> str:
    from IPython.display import Audio

    if not len(stream.data):
        return "(no sound)"
    # Not normalized: a sound that is silent would become loud noise.
    sound = adapter.frames(stream).T / 2**15
    source = Audio(sound, rate=int(stream.format["rate"]), normalize=False).src_attr()
    return f'<audio controls style="{PLAYER}" src="{source}"></audio>'


def _names(item: Continuations) -> list[str]:
    return [f"sample {number}" for number in range(1, 1 + len(item.continuations))]


def _original(item: Continuations) -> tuple[Bytes, ...]:
    return () if item.original is None else (item.original,)


def _streams(item: Continuations) -> dict[str, ByteStream]:
    """The original, cut to the length of the longest continuation, and the continuations."""
    longest = max((len(data) for data in item.continuations), default=len(item.prefix))
    named = {} if item.original is None else {"original": item.original[:longest]}
    named |= dict(zip(_names(item), item.continuations, strict=True))
    return {name: ByteStream(data, item.format) for name, data in named.items()}


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    """A table of rows of cells, each cell under its name."""
    lines = (
        "".join(f'<td style="{CELL}"><b>{escape(name)}</b><br>{cell}</td>' for name, cell in row.items())
        for row in rows
    )
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
