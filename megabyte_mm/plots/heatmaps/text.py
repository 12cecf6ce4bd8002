"""Where the bits of a text go: the first page of it, each character on the colour of its cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from megabyte_mm.plots.heatmaps.scale import (
    DPI,
    PALE,
    RAW,
    SHORTEST,
    Floats,
    bits_bar,
    exact_axes,
    heading,
    put_title,
    renderable,
)
from megabyte_mm.plots.heatmaps.text_page import characters

FONT = "DejaVu Sans Mono"
"""Comes with matplotlib, so that a heatmap is the same everywhere."""
COLUMNS, LINES = 100, 60
"""Characters of a line, and lines, of the page."""
WIDE, HIGH = 9, 18
"""Screen pixels of a character."""
POINTS = WIDE / (1233 / 2048) * 72 / DPI
"""The size at which the font's letters are just as wide."""
LEFT, TOP, BAR, RIGHT, BOTTOM = 24, 72, 18, 84, 24
SHOWN = {"\n": "↵", "\t": "→"}


@dataclass(frozen=True)
class Page:
    """The characters that fit on a page. rows, columns: (k,), where each of the first k characters stands."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    @property
    def lines(self) -> int:
        """How many lines are taken."""
        return int(self.rows[-1]) + 1 if len(self.rows) else 0


def text_heatmap(data: bytes, bits: Floats, name: str = "", end_bits: float = 0.0) -> Figure:
    """The text, wrapped, each character on the colour of its bits per byte; the title tells how much of it is shown.

    bits: (n,), of each byte, n >= 0. end_bits: what END costs, told in the title. Characters that matplotlib's fonts
    lack, and such as are not drawn by themselves, are squares; bytes that are no UTF-8 are replacement characters.
    """
    found = characters(data, bits)
    page = laid_out(found.text)
    shown, lines = len(page.rows), max(page.lines, 1)
    across, down = COLUMNS * WIDE, lines * HIGH
    beside = min(max(down, SHORTEST), 2 * SHORTEST)
    total = LEFT + across + RIGHT + 2 * BAR, TOP + max(down, beside) + BOTTOM
    figure = Figure(figsize=(total[0] / DPI, total[1] / DPI), dpi=DPI)
    title = heading(name, bits, end_bits, len(bits))
    rest = f" · the first {shown:,} of {len(found.text):,} characters" if shown < len(found.text) else ""
    put_title(figure, title + rest, total[1])
    cells = np.ones((lines, COLUMNS, 4))
    cells[page.rows, page.columns] = ScalarMappable(Normalize(0, RAW), PALE).to_rgba(found.levels[:shown])
    axes = exact_axes(figure, LEFT, TOP, across, down)
    axes.imshow(cells, aspect="auto", interpolation="nearest", extent=(0, COLUMNS, lines, 0))
    axes.set_axis_off()
    for row, column, piece in _pieces(found.text[:shown], page):
        axes.text(column, row + 0.74, piece, family=FONT, fontsize=POINTS, va="baseline", parse_math=False)
    bits_bar(figure, exact_axes(figure, LEFT + across + BAR, TOP, BAR, beside), "byte", 1, PALE)
    return figure


def laid_out(text: str, columns: int = COLUMNS, lines: int = LINES) -> Page:
    """Where the characters of the first page stand: a line is broken after a line end, and where it is full."""
    places: list[tuple[int, int]] = []
    row = column = 0
    for character in text:
        if column == columns:
            row, column = row + 1, 0
        if row == lines:
            break
        places.append((row, column))
        row, column = (row + 1, 0) if character == "\n" else (row, column + 1)
    rows, across = np.array(places, np.int64).reshape(-1, 2).T
    return Page(rows, across)


def _pieces(text: str, page: Page) -> list[tuple[int, int, str]]:
    """What is drawn at which row and column: each line's ASCII at once, since it is as wide as its cells, and all else
    by itself, so that nothing is joined, reordered or moved."""
    grid = np.full((page.lines, COLUMNS), " ")
    pieces = []
    for row, column, character in zip(page.rows.tolist(), page.columns.tolist(), text, strict=True):
        if " " <= character <= "~":
            grid[row, column] = character
        else:
            pieces.append((row, column, renderable(SHOWN.get(character, character), FONT)))
    return [(row, 0, "".join(line).rstrip()) for row, line in enumerate(grid) if line.any()] + pieces
