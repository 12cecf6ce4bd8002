"""Continuations side by side: figures, players, texts; and sliders for sampling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from data_adapters import Adapter, AudioAdapter, Bytes, ByteStream, ImageAdapter, TextAdapter
from megabyte_mm.generation import UNKNOWN, Continuations
from megabyte_mm.plots import picture_rows, waveforms

CELL = "vertical-align: top; text-align: left; padding: 0 1em 0.5em 0; max-width: 28em"
PLAYER = "width: 13em"
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
    from IPython.display import HTML, Audio

    def player(stream: ByteStream) -> str:
        # Not normalized: a continuation that is silent would become loud noise.
        sound = adapter.frames(stream).T / 2**15
        source = Audio(sound, rate=int(item.format["rate"]), normalize=False).src_attr()
        return f'<audio controls style="{PLAYER}" src="{source}"></audio>'

    return HTML(_table({name: player(stream) for name, stream in _streams(item).items()}))


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
    return HTML(_table(cells))


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


def _table(cells: Mapping[str, str]) -> str:
    """A table of one row, each cell under its name."""
    columns = (f'<td style="{CELL}"><b>{escape(name)}</b><br>{cell}</td>' for name, cell in cells.items())
    return f"<table><tr>{''.join(columns)}</tr></table>"
