"""What all heatmaps share: one scale of colours, their titles, and axes that show each value as whole screen pixels.

A colour stands for bits per byte of what is painted, from 0 to 8 (what the byte takes as it is) and the same above: so
that heatmaps of different files, models and modalities compare. An RGB pixel reaches the top at 24 bits, a 16-bit
sample at 16.
"""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RAW = 8
"""Bits of a byte as it is: the top of the scale."""
DARK = "inferno"
"""The colours of dense maps: black is cheap, pale yellow costs as much as the raw bytes, or more."""
PALE = LinearSegmentedColormap.from_list("pale", ["#ffffff", "#fff0b8", "#fdc65f", "#f58634", "#e2502e"])
"""The colours behind text: all of them leave black letters legible."""
DPI = 100
SHORTEST = 120
"""Screen pixels of a colour bar at least, so that its label fits."""
TITLE = 12
"""Points of the title's letters."""
NAME = 64
"""Characters of a file's name that a title has room for."""
MISSING = "\N{WHITE SQUARE}"
"""Stands for a character that matplotlib's own fonts cannot draw."""


def bits_per_byte(bits: Floats, end_bits: float, size: int) -> float:
    """All bits, those of END too, over the number of bytes; nan where there are none."""
    return (float(bits.sum()) + end_bits) / size if size else math.nan


def heading(name: str, bits: Floats, end_bits: float, size: int) -> str:
    """A file's name, and below it what the file costs. size: its bytes."""
    end = f", END {end_bits:.1f} bits" if end_bits else ""
    total = f"{bits_per_byte(bits, end_bits, size):.3f} bits per byte ({size:,} bytes{end})" if size else "no bytes"
    return f"{_shortened(renderable(name))}\n{total}"


def renderable(text: str, font: str = "DejaVu Sans") -> str:
    """The text with a square for each character that the font lacks: matplotlib would warn, and draw one as well."""
    known = get_font(findfont(font)).get_char_index
    return "".join(c if c.isprintable() and known(ord(c)) else MISSING for c in text)


def put_title(figure: Figure, title: str, height: float) -> None:
    """Write the title at the upper left. height: of the figure, in screen pixels."""
    figure.text(0.02, 1 - 12 / height, title, fontsize=TITLE, va="top", linespacing=1.4, parse_math=False)


def exact_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place of the figure that is given in screen pixels, from its upper left corner."""
    across, down = (float(side) * figure.dpi for side in figure.get_size_inches())
    return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def bits_bar(figure: Figure, axes: Axes, what: str, size: int, colours: str | LinearSegmentedColormap = DARK) -> None:
    """Fill the axes with a colour bar. what: is painted, of `size` bytes, as "pixel"."""
    scale = ScalarMappable(Normalize(0, RAW * size), colours)
    figure.colorbar(scale, cax=axes, extend="max", label=f"bits per {what}")


def scale_for(longest: int, room: int) -> float:
    """Screen pixels for each value of a map, so that its longest side nearly fills `room`: whole where they fit in."""
    return max(room // longest, 1) if longest <= 4 * room else 4 * room / longest


def _shortened(name: str) -> str:
    return name if len(name) <= NAME else f"\N{HORIZONTAL ELLIPSIS}{name[1 - NAME :]}"
