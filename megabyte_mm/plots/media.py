"""Media as bytes: the two scans of a picture, the codings of sound, the characters of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Order = NDArray[np.int64]
"""Numbers of the pixels of a picture, counted row by row, in the order in which a scan visits them: (H * W,)."""

TINT = 0.5
"""How bright a byte of one channel is in the colours of the others: at 0 pure red, green and blue hide the picture."""
DARK = 110
"""Bytes below this are labelled in white."""


def scan_orders(pixels_HWC: Bytes, orders: Mapping[str, Order], patch: int, marked: int = 0) -> Figure:
    """How each scan walks over a picture, and the stream of bytes that this makes: a row for each scan.

    orders: scan -> pixel numbers. patch: pixels in a patch of the model. On the left the path over the picture, from
    dark to light; on the right the stream, a line for each patch of the model, each byte tinted by its channel. The
    patch of number `marked` is framed in both.
    """
    figure = Figure(figsize=(10, 5 * len(orders)), layout="constrained")
    rows = figure.subplots(len(orders), 2, squeeze=False, width_ratios=(1, 1.2))
    for (path, stream), (name, order) in zip(rows, orders.items(), strict=True):
        _draw_path(path, pixels_HWC, order)
        _mark(path, order[marked * patch :][:patch], pixels_HWC.shape[1])
        path.set_title(f"{name} scan: the order of the pixels")
        shown = channel_colours(pixels_HWC, order, patch)
        stream.imshow(shown, aspect="auto", interpolation="nearest")
        stream.add_patch(Rectangle((-0.5, marked - 0.5), shown.shape[1], 1, fill=False, edgecolor="red", linewidth=2))
        stream.set_title(f"{name} scan: the bytes, a line for each patch")
        stream.set_xlabel("byte in the patch")
        stream.set_ylabel("patch")
    return figure


def channel_colours(pixels_HWC: Bytes, order: Order, patch: int) -> Bytes:
    """The stream as a picture, a line for each patch: (patches, patch * C, 3), each byte tinted by its channel."""
    channels = pixels_HWC.shape[2]
    data = pixels_HWC.reshape(-1, channels)[order]
    lines = -(-len(data) // patch)
    filled = np.zeros((lines * patch, channels), np.uint8)
    filled[: len(data)] = data
    shown = np.repeat(filled[:, :, None], 3, axis=2)
    if channels == 3:
        shown = (shown * (TINT + (1 - TINT) * np.eye(3))).astype(np.uint8)
    return shown.reshape(lines, patch * channels, 3)


def _draw_path(axes: Axes, pixels_HWC: Bytes, order: Order) -> None:
    height, width = pixels_HWC.shape[:2]
    axes.imshow(pixels_HWC.squeeze(), cmap="gray", vmin=0, vmax=255, alpha=0.45, interpolation="nearest")
    places = np.stack([order % width, order // width], axis=1)
    line = LineCollection(np.stack([places[:-1], places[1:]], axis=1), cmap="viridis", linewidths=1.2)  # type: ignore[arg-type]
    line.set_array(np.arange(len(order) - 1))
    axes.add_collection(line)
    axes.set_xticks(())
    axes.set_yticks(())
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def _mark(axes: Axes, pixels: Order, width: int) -> None:
    for pixel in pixels.tolist():
        corner = pixel % width - 0.5, pixel // width - 0.5
        axes.add_patch(Rectangle(corner, 1, 1, facecolor="red", alpha=0.55, edgecolor="none"))


def byte_grid(data: Bytes, columns: int, labels: Sequence[str] = ()) -> Figure:
    """Bytes as numbered cells, darker where they are lower, `columns` in a line; labels: one below each number."""
    lines = -(-len(data) // columns)
    figure = Figure(figsize=(0.55 * columns, (0.75 if labels else 0.5) * lines), layout="constrained")
    axes = figure.subplots()
    cells = np.full(lines * columns, np.nan)
    cells[: len(data)] = data
    axes.imshow(cells.reshape(lines, columns), cmap="gray", vmin=0, vmax=255, aspect="auto")
    for place, byte in enumerate(data.tolist()):
        text = f"{byte}\n{labels[place]}" if labels else str(byte)
        colour = "white" if byte < DARK else "black"
        axes.text(place % columns, place // columns, text, ha="center", va="center", size=9, color=colour)
    axes.set_axis_off()
    return figure


def text_bytes(characters: Sequence[str], columns: int = 24) -> Figure:
    """Characters, and below each the bytes that it takes in UTF-8: as many cells wide as it has bytes.

    A character that would not fit into a line begins the next. Raises ValueError for one that has more bytes than that.
    """
    places = _placed([len(character.encode()) for character in characters], columns)
    lines = places[-1][0] + 1 if places else 1
    figure = Figure(figsize=(0.45 * columns, 0.9 * lines), layout="constrained")
    axes = figure.subplots()
    for number, (character, (line, column)) in enumerate(zip(characters, places, strict=True)):
        data, top = character.encode(), 2.4 * line
        colour = f"C{len(data) - 1}" if len(data) > 1 else ("0.93", "0.85")[number % 2]
        axes.add_patch(Rectangle((column, top), len(data), 2, facecolor=colour, alpha=0.55, edgecolor="white"))
        shown = character if character.isprintable() else repr(character)[1:-1]
        axes.text(column + len(data) / 2, top + 0.55, shown, ha="center", va="center", size=13)
        for offset, byte in enumerate(data):
            axes.text(column + offset + 0.5, top + 1.5, str(byte), ha="center", va="center", size=8)
    axes.set_xlim(0, columns)
    axes.set_ylim(2.4 * lines, 0)
    axes.set_axis_off()
    return figure


def _placed(widths: Sequence[int], columns: int) -> list[tuple[int, int]]:
    """Line and column of each piece, none broken."""
    places, line, column = [], 0, 0
    for width in widths:
        if width > columns:
            raise ValueError(f"{width} bytes do not fit into {columns} columns")
        if column + width > columns:
            line, column = line + 1, 0
        places.append((line, column))
        column += width
    return places


def byte_counts(streams: Mapping[str, Bytes]) -> Figure:
    """How often each of the 256 bytes stands in each stream, as a share of it: a row for each."""
    figure = Figure(figsize=(10, 1.7 * len(streams)), layout="constrained")
    rows = figure.subplots(len(streams), squeeze=False, sharex=True)[:, 0]
    for number, (axes, (name, data)) in enumerate(zip(rows, streams.items(), strict=True)):
        counts = np.bincount(data, minlength=256) / max(len(data), 1)
        axes.bar(np.arange(256), counts, width=1.0, color=f"C{number}")
        used = f"{np.count_nonzero(counts)} of 256 bytes occur"
        axes.set_title(f"{name}: {used}", loc="left", size=10)
        axes.set_ylabel("share")
    rows[-1].set_xlim(-1, 256)
    rows[-1].set_xlabel("byte")
    return figure


def scan_distances(orders: Mapping[str, Order], width: int, pixels_back: int) -> Figure:
    """How far apart in the picture two pixels lie, by how far apart they lie in the stream: a line for each scan."""
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, order in orders.items():
        places = np.stack([order % width, order // width]).astype(float)
        apart = [np.hypot(*(places[:, back:] - places[:, :-back])).mean() for back in range(1, pixels_back + 1)]
        axes.plot(range(1, pixels_back + 1), apart, label=name)
    axes.set_xlabel("pixels apart in the stream")
    axes.set_ylabel("mean distance in the picture (pixels)")
    axes.legend()
    axes.grid(alpha=0.3)
    return figure
