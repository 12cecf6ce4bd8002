"""Temperature and top-p by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from data_adapters import Adapter, AudioAdapter, Bytes, ByteStream, ImageAdapter, TextAdapter
from megabyte_mm.generation.continuation import UNKNOWN, Continuations
from megabyte_mm.plots.continuations import picture_rows, waveforms

CELL = "vertical-align: top; text-align: left; padding: 0 1em 0.5em 0; max-width: 28em"
PLAYER = "width: 13em"
TAIL = 400
"""Characters that are shown of what a text's continuations were given."""
PREFIX_STYLE, GENERATED_STYLE = "opacity: 0.55", "font-weight: bold"


def show_pictures(adapter: ImageAdapter, rows: Mapping[str, Continuations]) -> Any:
    """A figure of the given part, each continuation and the original, for every row: such as a temperature."""

    def pixels(data: Bytes, made: Continuations) -> Bytes:
        return adapter.pixels(ByteStream(data, made.format), fill=UNKNOWN)

    lines = {
        name: [pixels(data, made) for data in (made.prefix, *made.continuations, *_original(made))]
        for name, made in rows.items()
    }
    first = next(iter(rows.values()))
    titles = ["given", *(f"drawn {number}" for number in range(1, 1 + len(first.continuations)))]
    return picture_rows(lines, [*titles, *(["original"] if first.original is not None else [])])


def show_waveforms(adapter: AudioAdapter, made: Continuations) -> Any:
    """A figure of the original and each continuation, grey as far as it was given; channels are averaged."""
    sounds = {name: adapter.frames(its).mean(axis=1) for name, its in _streams(made).items()}
    rate, given = int(made.format["rate"]), len(adapter.frames(ByteStream(made.prefix, made.format)))
    return waveforms(sounds, rate, given / rate)


def players(adapter: AudioAdapter, made: Continuations) -> Any:
    """Audio players of the original and each continuation, side by side, as HTML."""
    from IPython.display import HTML, Audio

    def player(stream: ByteStream) -> str:
        # Not made as loud as possible: continuations of silence would be noise.
        sound = adapter.frames(stream).T / 2**15
        source = Audio(sound, rate=int(made.format["rate"]), normalize=False).src_attr()
        return f'<audio controls style="{PLAYER}" src="{source}"></audio>'

    return HTML(_columns({name: player(stream) for name, stream in _streams(made).items()}))


def show_texts(adapter: TextAdapter, made: Continuations) -> Any:
    """The end of what was given, faint, and each continuation of it, bold, side by side, as HTML."""
    from IPython.display import HTML

    given = escape(adapter.decode(made.prefix)[-TAIL:])
    columns = {
        f"drawn {number}": (
            f'<div style="white-space: pre-wrap; font-family: monospace"><span style="{PREFIX_STYLE}">{given}</span>'
            f'<span style="{GENERATED_STYLE}">{escape(adapter.decode(data[len(made.prefix) :]))}</span></div>'
        )
        for number, data in enumerate(made.continuations, start=1)
    }
    return HTML(_columns(columns))


def show(adapter: Adapter, made: Continuations) -> Any:
    """Whichever of these fits. Raises ValueError for bytes that can be neither seen nor heard nor read."""
    if isinstance(adapter, ImageAdapter):
        return show_pictures(adapter, {"": made})
    if isinstance(adapter, AudioAdapter):
        return players(adapter, made)
    if isinstance(adapter, TextAdapter):
        return show_texts(adapter, made)
    raise ValueError(f"there is no way to show bytes of {adapter.name}")


def framed(page: str, height: int = 420) -> Any:
    """A whole HTML page inside the notebook, in a frame of so many pixels that keeps its styles to itself."""
    from IPython.display import HTML

    style = f"width: 100%; height: {height}px; border: 1px solid #ccc"
    # Not an IFrame, which takes an address.
    return HTML(f'<div><iframe style="{style}" srcdoc="{escape(page)}"></iframe></div>')


def _original(made: Continuations) -> Sequence[Bytes]:
    return () if made.original is None else (made.original,)


def _streams(made: Continuations) -> dict[str, ByteStream]:
    """The original, as long as the longest continuation, and the continuations."""
    longest = max((len(data) for data in made.continuations), default=len(made.prefix))
    named = {} if made.original is None else {"original": made.original[:longest]}
    named |= {f"drawn {number}": data for number, data in enumerate(made.continuations, start=1)}
    return {name: ByteStream(data, made.format) for name, data in named.items()}


def _columns(cells: Mapping[str, str]) -> str:
    """A table of one row, each cell under its name."""
    parts = (f'<td style="{CELL}"><b>{escape(name)}</b><br>{cell}</td>' for name, cell in cells.items())
    return f"<table><tr>{''.join(parts)}</tr></table>"


def sampling_sliders(draw: Callable[[float, float, int], object], temperature: float = 1.0, top_p: float = 1.0) -> Any:
    """A widget with sliders for temperature, top-p and seed, and a button that shows what `draw` makes of them.

    draw: (temperature, top_p, seed) -> what is shown. It runs when the button is pressed, since drawing takes a while.
    """
    from ipywidgets import FloatSlider, IntSlider, interactive

    return interactive(
        draw,
        {"manual": True, "manual_name": "draw"},
        temperature=FloatSlider(temperature, min=0.0, max=1.5, step=0.05, continuous_update=False),
        top_p=FloatSlider(top_p, min=0.05, max=1.0, step=0.05, continuous_update=False),
        seed=IntSlider(0, min=0, max=20, continuous_update=False),
    )
