"""Layout that all heatmaps share: one colour scale, titles, and axes in screen pixels.

Colours stand for bits per byte from 0 to 8 (the bits of a raw byte) and above, so that heatmaps of different files,
models and modalities compare. The top is at 24 bits for an RGB pixel and at 16 bits for a 16-bit sample.
"""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from megabyte_mm.plots.style import Floats

RAW_BITS = 8
"""Bits of a raw byte: the top of the scale."""
DARK = "inferno"
"""Colours of dense maps: black is cheap, pale yellow costs as much as the raw bytes or more."""
PALE = LinearSegmentedColormap.from_list("pale", ["#ffffff", "#fff0b8", "#fdc65f", "#f58634", "#e2502e"])
"""Background colours of text; black letters are legible on each."""
DPI = 100
MIN_BAR = 120
"""Screen pixels that a colour bar needs for its label."""
TITLE_POINTS = 12
MAX_NAME = 64
"""Characters of a file's name in a title."""
MISSING_GLYPH = "\N{WHITE SQUARE}"


def bits_per_byte(bits: Floats, end_bits: float, size: int) -> float:
    """All bits, those of END included, over the number of bytes; nan for no bytes."""
    return (float(bits.sum()) + end_bits) / size if size else math.nan


def heading(name: str, bits: Floats, end_bits: float, size: int) -> str:
    """Title of a file's heatmap: its name, and its cost in a second line. size: its bytes."""
    end = f", END {end_bits:.1f} bits" if end_bits else ""
    total = f"{bits_per_byte(bits, end_bits, size):.3f} bits per byte ({size:,} bytes{end})" if size else "no bytes"
    return f"{_shorten(renderable(name))}\n{total}"


def renderable(text: str, font: str = "DejaVu Sans") -> str:
    """Replace each character that the font lacks by a square; matplotlib would draw one too, but with a warning."""
    glyph_of = get_font(findfont(font)).get_char_index
    return "".join(c if c.isprintable() and glyph_of(ord(c)) else MISSING_GLYPH for c in text)


def figure_of(width: float, height: float, title: str) -> Figure:
    """Return a figure of this size in screen pixels, with the title at the upper left."""
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    figure.text(0.02, 1 - 12 / height, title, fontsize=TITLE_POINTS, va="top", linespacing=1.4, parse_math=False)
    return figure


def pixel_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes at a position in screen pixels from the figure's upper left corner."""
    across, down = (float(side) * figure.dpi for side in figure.get_size_inches())
    return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def colour_bar(figure: Figure, axes: Axes, item: str, size: int, colours: str | LinearSegmentedColormap = DARK) -> None:
    """Fill the axes with a colour bar. item: what a value belongs to ("pixel"), of `size` bytes."""
    scale = ScalarMappable(Normalize(0, RAW_BITS * size), colours)
    figure.colorbar(scale, cax=axes, extend="max", label=f"bits per {item}")


def pixel_scale(longest: int, room: int) -> float:
    """Screen pixels for each value of a map whose longest side should nearly fill `room`; integral where it fits."""
    return max(room // longest, 1) if longest <= 4 * room else 4 * room / longest


def _shorten(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"\N{HORIZONTAL ELLIPSIS}{name[1 - MAX_NAME :]}"
