"""Bits of a text: its first page as a figure, each character on the colour of its cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from megabyte_mm.plots.heatmaps.layout import (
    DPI,
    MIN_BAR,
    PALE,
    RAW_BITS,
    colour_bar,
    figure_of,
    heading,
    pixel_axes,
    renderable,
)
from megabyte_mm.plots.style import Floats

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_SURROGATES = dict.fromkeys(range(0xDC80, 0xDD00), REPLACEMENT)
"""Code points that Python's "surrogateescape" uses for bytes that are not UTF-8."""

FONT = "DejaVu Sans Mono"
"""Part of matplotlib, so that a heatmap is the same everywhere."""
COLUMNS, LINES = 100, 60
"""Size of the page in characters."""
WIDTH, HEIGHT = 9, 18
"""Screen pixels of a character."""
POINTS = WIDTH / (1233 / 2048) * 72 / DPI
"""Font size at which letters have that width."""
LEFT, TOP, BAR, RIGHT, BOTTOM = 24, 72, 18, 84, 24
SYMBOLS = {"\n": "↵", "\t": "→"}


@dataclass(frozen=True)
class Characters:
    """text: m characters. bits: (m,), total cost of each one's bytes. sizes: (m,), number of its bytes."""

    text: str
    bits: Floats
    sizes: NDArray[np.int64]

    @property
    def bits_per_byte(self) -> Floats:
        """Bits per byte of each character: (m,). More bytes in other scripts do not mean a stronger colour."""
        return self.bits / self.sizes


@dataclass(frozen=True)
class Page:
    """The characters that fit on a page. rows, columns: (k,), positions of the first k characters."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    @property
    def lines(self) -> int:
        """Number of lines in use."""
        return int(self.rows[-1]) + 1 if len(self.rows) else 0


def split_characters(data: bytes, bits: Floats) -> Characters:
    """Split a text into characters; each byte that is not UTF-8 becomes one U+FFFD. bits: (n,), of each byte.

    The characters' bits and sizes add up to those of the bytes.
    """
    text = data.decode("utf-8", errors="surrogateescape")
    codes = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), "<u4")
    sizes = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
    sizes[(codes >= 0xDC80) & (codes < 0xDD00)] = 1
    starts = np.cumsum(sizes) - sizes
    sums = np.add.reduceat(bits, starts) if len(starts) else np.zeros(0)
    return Characters(text.translate(_SURROGATES), sums.astype(np.float64), sizes)


def text_heatmap(data: bytes, bits: Floats, name: str = "", end_bits: float = 0.0) -> Figure:
    """Draw the first page of a text, each character on the colour of its bits per byte.

    bits: (n,), of each byte, n >= 0. end_bits: cost of END, for the title. Characters that matplotlib's fonts lack or
    that are not drawn by themselves are squares; bytes that are not UTF-8 are replacement characters.
    """
    characters = split_characters(data, bits)
    page = wrap(characters.text)
    count, lines = len(page.rows), max(page.lines, 1)
    across, down = COLUMNS * WIDTH, lines * HEIGHT
    bar = min(max(down, MIN_BAR), 2 * MIN_BAR)
    title = heading(name, bits, end_bits, len(bits))
    if count < len(characters.text):
        title += f" · the first {count:,} of {len(characters.text):,} characters"
    figure = figure_of(LEFT + across + RIGHT + 2 * BAR, TOP + max(down, bar) + BOTTOM, title)
    cells = np.ones((lines, COLUMNS, 4))
    colours = ScalarMappable(Normalize(0, RAW_BITS), PALE).to_rgba(characters.bits_per_byte[:count])
    cells[page.rows, page.columns] = colours
    axes = pixel_axes(figure, LEFT, TOP, across, down)
    axes.imshow(cells, aspect="auto", interpolation="nearest", extent=(0, COLUMNS, lines, 0))
    axes.set_axis_off()
    for row, column, piece in _pieces(characters.text[:count], page):
        axes.text(column, row + 0.74, piece, family=FONT, fontsize=POINTS, va="baseline", parse_math=False)
    colour_bar(figure, pixel_axes(figure, LEFT + across + BAR, TOP, BAR, bar), "byte", 1, PALE)
    return figure


def wrap(text: str, columns: int = COLUMNS, lines: int = LINES) -> Page:
    """Lay out the first page of a text: lines break after a line end, and where they are full."""
    positions: list[tuple[int, int]] = []
    row = column = 0
    for character in text:
        if column == columns:
            row, column = row + 1, 0
        if row == lines:
            break
        positions.append((row, column))
        row, column = (row + 1, 0) if character == "\n" else (row, column + 1)
    rows, across = np.array(positions, np.int64).reshape(-1, 2).T
    return Page(rows, across)


def _pieces(text: str, page: Page) -> list[tuple[int, int, str]]:
    """Pieces to draw, as (row, column, text): a line's ASCII as one, since its letters are as wide as their cells, and
    every other character by itself, so that none is joined, reordered or moved."""
    grid = np.full((page.lines, COLUMNS), " ")
    pieces = []
    for row, column, character in zip(page.rows.tolist(), page.columns.tolist(), text, strict=True):
        if " " <= character <= "~":
            grid[row, column] = character
        else:
            pieces.append((row, column, renderable(SYMBOLS.get(character, character), FONT)))
    return [(row, 0, "".join(line).rstrip()) for row, line in enumerate(grid) if line.any()] + pieces
