"""Bits of any file: its bytes as a map, row by row."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

from megabyte_mm.plots.heatmaps.layout import (
    DARK,
    MIN_BAR,
    RAW_BITS,
    colour_bar,
    figure_of,
    heading,
    pixel_axes,
    pixel_scale,
)
from megabyte_mm.plots.style import Floats

COLUMNS = 64
"""Bytes of a row; doubled until the map of a longer file is at most twice as high as wide."""
MAX_CELLS = 2**22
"""In files of more bytes, a cell is the mean of several."""
MAX_TICKS = 10
"""Rows labelled with their offset."""
ROOM = 640
LEFT, TOP, BAR, RIGHT, BOTTOM = 96, 80, 18, 84, 52
"""Screen pixels around the map."""


def bytes_heatmap(bits: Floats, name: str = "", end_bits: float = 0.0) -> Figure:
    """Draw a map of bits per byte in rows of 64 bytes or more. bits: (n,), n >= 0.

    end_bits: cost of END, for the title.
    """
    cells, step = byte_rows(bits)
    rows, columns = cells.shape
    scale = pixel_scale(max(rows, columns), ROOM)
    across, down = columns * scale, max(rows * scale, MIN_BAR)
    title = heading(name, bits, end_bits, len(bits))
    figure = figure_of(LEFT + across + RIGHT + 2 * BAR, TOP + down + BOTTOM, title)
    axes = pixel_axes(figure, LEFT, TOP, across, rows * scale)
    axes.set_facecolor("0.85")
    axes.imshow(cells, DARK, vmin=0, vmax=RAW_BITS, interpolation="nearest")
    axes.set_xlabel("byte of the row" if step == 1 else f"each cell is the mean of {step} bytes")
    axes.set_ylabel("offset of the row" if rows * scale >= MIN_BAR else "offset")
    ticks = np.arange(0, rows, 2 ** max(math.ceil(math.log2(rows / MAX_TICKS)), 0))
    axes.set_yticks(ticks, [f"{row * columns * step:,}" for row in ticks.tolist()])
    colour_bar(figure, pixel_axes(figure, LEFT + across + BAR, TOP, BAR, down), "byte", 1)
    return figure


def byte_rows(bits: Floats, columns: int = COLUMNS, max_cells: int = MAX_CELLS) -> tuple[Floats, int]:
    """Arrange the bits in rows of a map, nan after the last byte, and return it with the number of bytes of a cell.

    bits: (n,) -> (R, columns * 2 ** k) with R >= 1.
    """
    step = max(-(-len(bits) // max_cells), 1)
    means = np.add.reduceat(bits, np.arange(0, len(bits), step)) if step > 1 else bits
    if step > 1:
        means = means / np.append(np.full(len(means) - 1, step), len(bits) - step * (len(means) - 1))
    while len(means) > 2 * columns * columns:
        columns *= 2
    rows = np.full((max(-(-len(means) // columns), 1), columns), np.nan)
    rows.reshape(-1)[: len(means)] = means
    return rows, step
