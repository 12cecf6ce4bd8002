"""Several continuations of one prefix, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from megabyte_mm.plots.style import FULL_SCALE, Bytes, Samples, hide_ticks, show_pixels


def picture_rows(rows: Mapping[str, Sequence[Bytes]], titles: Sequence[str], inches: float = 1.6) -> Figure:
    """Draw pictures (H, W, C) in named rows, each column under its title: prefix, continuations, original.

    inches: width of a picture.
    """
    height = sum(inches * max(len(pixels) / pixels.shape[1] for pixels in row) for row in rows.values())
    figure = Figure(figsize=(inches * len(titles) + 0.2, height + 0.3), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)  # type: ignore[union-attr,call-arg]
    grid = figure.subplots(len(rows), len(titles), squeeze=False)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, size=10)
    for line, (name, pictures) in zip(grid, rows.items(), strict=True):
        line[0].set_ylabel(name)
        for axes, pixels in zip(line, pictures, strict=True):
            show_pixels(axes, pixels)
            hide_ticks(axes)
    return figure


def waveforms(sounds: Mapping[str, Samples], rate: int, prefix_seconds: float) -> Figure:
    """Draw sounds (T,) below each other over time, grey up to the end of their common prefix."""
    figure = Figure(figsize=(10, 1.1 * len(sounds) + 0.5), layout="constrained")
    rows = figure.subplots(len(sounds), squeeze=False, sharex=True, sharey=True)[:, 0]
    for number, (axes, (name, samples)) in enumerate(zip(rows, sounds.items(), strict=True)):
        seconds, end = np.arange(len(samples)) / rate, round(prefix_seconds * rate)
        axes.plot(seconds[:end], samples[:end] / FULL_SCALE, color="0.6", linewidth=0.6)
        axes.plot(seconds[end:], samples[end:] / FULL_SCALE, color=f"C{number}", linewidth=0.6)
        axes.axvline(prefix_seconds, color="black", linewidth=1)
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
        axes.set_yticks(())
    rows[-1].set_xlabel("seconds")
    return figure
