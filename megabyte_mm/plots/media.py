"""Media as bytes: scan orders of a picture, bytes as numbers, characters of text, byte statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from megabyte_mm.plots.style import Bytes, hide_ticks, show_pixels

Order = NDArray[np.int64]
"""Pixel numbers of a picture, counted row by row, in the order of a scan: (H * W,)."""

TINT = 0.5
"""Brightness of a byte in the colours of the other channels; at 0, pure red, green and blue would hide the picture."""
DARK = 110
"""Cells of bytes below this have white labels."""


def scan_orders(pixels_HWC: Bytes, orders: Mapping[str, Order], patch: int, marked: int = 0) -> Figure:
    """Draw the path of each scan over a picture, and the stream of bytes that results; a row for each scan.

    orders: scan -> pixel numbers. patch: pixels in a patch of the model. On the left the path over the picture, from
    dark to light; on the right the stream, a line for each patch of the model, each byte tinted by its channel. Patch
    number `marked` is highlighted in both.
    """
    figure = Figure(figsize=(10, 5 * len(orders)), layout="constrained")
    rows = figure.subplots(len(orders), 2, squeeze=False, width_ratios=(1, 1.2))
    for (path, stream), (name, order) in zip(rows, orders.items(), strict=True):
        _draw_path(path, pixels_HWC, order)
        _mark(path, order[marked * patch :][:patch], pixels_HWC.shape[1])
        path.set_title(f"{name} scan: the order of the pixels")
        colours = channel_colours(pixels_HWC, order, patch)
        stream.imshow(colours, aspect="auto", interpolation="nearest")
        stream.add_patch(Rectangle((-0.5, marked - 0.5), colours.shape[1], 1, fill=False, edgecolor="red", linewidth=2))
        stream.set_title(f"{name} scan: the bytes, a line for each patch")
        stream.set_xlabel("byte in the patch")
        stream.set_ylabel("patch")
    return figure


def channel_colours(pixels_HWC: Bytes, order: Order, patch: int) -> Bytes:
    """Return the stream as a picture, a line for each patch: (patches, patch * C, 3), bytes tinted by their channel."""
    channels = pixels_HWC.shape[2]
    data = pixels_HWC.reshape(-1, channels)[order]
    lines = -(-len(data) // patch)
    filled = np.zeros((lines * patch, channels), np.uint8)
    filled[: len(data)] = data
    colours = np.repeat(filled[:, :, None], 3, axis=2)
    if channels == 3:
        colours = (colours * (TINT + (1 - TINT) * np.eye(3))).astype(np.uint8)
    return colours.reshape(lines, patch * channels, 3)


def _draw_path(axes: Axes, pixels_HWC: Bytes, order: Order) -> None:
    height, width = pixels_HWC.shape[:2]
    show_pixels(axes, pixels_HWC, alpha=0.45)
    points = np.stack([order % width, order // width], axis=1)
    line = LineCollection(np.stack([points[:-1], points[1:]], axis=1), cmap="viridis", linewidths=1.2)  # type: ignore[arg-type]
    line.set_array(np.arange(len(order) - 1))
    axes.add_collection(line)
    hide_ticks(axes)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def _mark(axes: Axes, pixels: Order, width: int) -> None:
    for pixel in pixels.tolist():
        corner = pixel % width - 0.5, pixel // width - 0.5
        axes.add_patch(Rectangle(corner, 1, 1, facecolor="red", alpha=0.55, edgecolor="none"))


def byte_grid(data: Bytes, columns: int, labels: Sequence[str] = ()) -> Figure:
    """Draw bytes as numbered cells, darker for lower bytes, `columns` in a line. labels: one below each number."""
    lines = -(-len(data) // columns)
    figure = Figure(figsize=(0.55 * columns, (0.75 if labels else 0.5) * lines), layout="constrained")
    axes = figure.subplots()
    cells = np.full(lines * columns, np.nan)
    cells[: len(data)] = data
    axes.imshow(cells.reshape(lines, columns), cmap="gray", vmin=0, vmax=255, aspect="auto")
    for index, byte in enumerate(data.tolist()):
        text = f"{byte}\n{labels[index]}" if labels else str(byte)
        colour = "white" if byte < DARK else "black"
        axes.text(index % columns, index // columns, text, ha="center", va="center", size=9, color=colour)
    axes.set_axis_off()
    return figure


def text_bytes(characters: Sequence[str], columns: int = 24) -> Figure:
    """Draw characters, each above its UTF-8 bytes and as many cells wide.

    A character that does not fit into a line starts the next. Raises ValueError for one wider than a whole line.
    """
    cells = _wrap([len(character.encode()) for character in characters], columns)
    lines = cells[-1][0] + 1 if cells else 1
    figure = Figure(figsize=(0.45 * columns, 0.9 * lines), layout="constrained")
    axes = figure.subplots()
    for number, (character, (line, column)) in enumerate(zip(characters, cells, strict=True)):
        data, top = character.encode(), 2.4 * line
        colour = f"C{len(data) - 1}" if len(data) > 1 else ("0.93", "0.85")[number % 2]
        axes.add_patch(Rectangle((column, top), len(data), 2, facecolor=colour, alpha=0.55, edgecolor="white"))
        label = character if character.isprintable() else repr(character)[1:-1]
        axes.text(column + len(data) / 2, top + 0.55, label, ha="center", va="center", size=13)
        for offset, byte in enumerate(data):
            axes.text(column + offset + 0.5, top + 1.5, str(byte), ha="center", va="center", size=8)
    axes.set_xlim(0, columns)
    axes.set_ylim(2.4 * lines, 0)
    axes.set_axis_off()
    return figure


def _wrap(widths: Sequence[int], columns: int) -> list[tuple[int, int]]:
    """Line and column of each piece, without breaking any."""
    cells, line, column = [], 0, 0
    for width in widths:
        if width > columns:
            raise ValueError(f"{width} bytes do not fit into {columns} columns")
        if column + width > columns:
            line, column = line + 1, 0
        cells.append((line, column))
        column += width
    return cells


def byte_counts(streams: Mapping[str, Bytes]) -> Figure:
    """Draw the share of each of the 256 byte values in each stream, a row for each."""
    figure = Figure(figsize=(10, 1.7 * len(streams)), layout="constrained")
    rows = figure.subplots(len(streams), squeeze=False, sharex=True)[:, 0]
    for number, (axes, (name, data)) in enumerate(zip(rows, streams.items(), strict=True)):
        counts = np.bincount(data, minlength=256) / max(len(data), 1)
        axes.bar(np.arange(256), counts, width=1.0, color=f"C{number}")
        axes.set_title(f"{name}: {np.count_nonzero(counts)} of 256 bytes occur", loc="left", size=10)
        axes.set_ylabel("share")
    rows[-1].set_xlim(-1, 256)
    rows[-1].set_xlabel("byte")
    return figure


def scan_distances(orders: Mapping[str, Order], width: int, pixels_back: int) -> Figure:
    """Draw the mean distance of two pixels in the picture by their distance in the stream, a line for each scan."""
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, order in orders.items():
        points = np.stack([order % width, order // width]).astype(float)
        distances = [np.hypot(*(points[:, back:] - points[:, :-back])).mean() for back in range(1, pixels_back + 1)]
        axes.plot(range(1, pixels_back + 1), distances, label=name)
    axes.set_xlabel("pixels apart in the stream")
    axes.set_ylabel("mean distance in the picture (pixels)")
    axes.legend()
    axes.grid(alpha=0.3)
    return figure
