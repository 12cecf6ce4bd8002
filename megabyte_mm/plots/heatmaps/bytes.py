"""Where the bits of any file go: its bytes as a map, row by row."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

from megabyte_mm.plots.heatmaps.scale import (
    DARK,
    DPI,
    RAW,
    SHORTEST,
    Floats,
    bits_bar,
    exact_axes,
    heading,
    put_title,
    scale_for,
)

COLUMNS = 64
"""Bytes of a row, doubled until the map of a longer file is no higher than twice its width."""
CELLS = 2**22
"""Cells of a map at most; in larger files one stands for the mean of several bytes."""
TICKS = 10
"""Rows whose offset is told, at most."""
ROOM = 640
LEFT, TOP, BAR, RIGHT, BOTTOM = 96, 80, 18, 84, 52
"""Screen pixels around the map."""


def bytes_heatmap(bits: Floats, name: str = "", end_bits: float = 0.0) -> Figure:
    """A map of bits per byte: rows of 64 bytes or more, left to right and down. bits: (n,), n >= 0.

    end_bits: what END costs, told in the title.
    """
    cells, step = byte_rows(bits)
    rows, columns = cells.shape
    scale = scale_for(max(rows, columns), ROOM)
    across, down = columns * scale, max(rows * scale, SHORTEST)
    total = LEFT + across + RIGHT + 2 * BAR, TOP + down + BOTTOM
    figure = Figure(figsize=(total[0] / DPI, total[1] / DPI), dpi=DPI)
    put_title(figure, heading(name, bits, end_bits, len(bits)), total[1])
    axes = exact_axes(figure, LEFT, TOP, across, rows * scale)
    axes.set_facecolor("0.85")
    axes.imshow(cells, DARK, vmin=0, vmax=RAW, interpolation="nearest")
    axes.set_xlabel("byte of the row" if step == 1 else f"each cell is the mean of {step} bytes")
    axes.set_ylabel("offset of the row" if rows * scale >= SHORTEST else "offset")
    ticks = np.arange(0, rows, 2 ** max(math.ceil(math.log2(rows / TICKS)), 0))
    axes.set_yticks(ticks, [f"{row * columns * step:,}" for row in ticks.tolist()])
    bits_bar(figure, exact_axes(figure, LEFT + across + BAR, TOP, BAR, down), "byte", 1)
    return figure


def byte_rows(bits: Floats, columns: int = COLUMNS, cells: int = CELLS) -> tuple[Floats, int]:
    """The bits as rows of a map, nan where the last one has no byte, and how many bytes' mean a cell is.

    bits: (n,) -> (R, columns * 2 ** k) with R >= 1.
    """
    step = max(-(-len(bits) // cells), 1)
    means = np.add.reduceat(bits, np.arange(0, len(bits), step)) if step > 1 else bits
    if step > 1:
        means = means / np.append(np.full(len(means) - 1, step), len(bits) - step * (len(means) - 1))
    while len(means) > 2 * columns * columns:
        columns *= 2
    rows = np.full((max(-(-len(means) // columns), 1), columns), np.nan)
    rows.reshape(-1)[: len(means)] = means
    return rows, step
