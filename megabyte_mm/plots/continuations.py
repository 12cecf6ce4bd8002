"""Several continuations of one beginning, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from megabyte_mm.plots.sound import FULL_SCALE

Bytes = NDArray[np.uint8]
Samples = NDArray[np.int16]


def picture_rows(rows: Mapping[str, Sequence[Bytes]], titles: Sequence[str], inches: float = 1.6) -> Figure:
    """Pictures (H, W, C) in rows, each under its title: such as what was given, what was drawn, and the original.

    inches: the width of a picture.
    """
    height = sum(inches * max(len(pixels) / pixels.shape[1] for pixels in line) for line in rows.values())
    figure = Figure(figsize=(inches * len(titles) + 0.2, height + 0.3), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)  # type: ignore[union-attr,call-arg]
    grid = figure.subplots(len(rows), len(titles), squeeze=False)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, size=10)
    for line, (name, pictures) in zip(grid, rows.items(), strict=True):
        line[0].set_ylabel(name)
        for axes, pixels in zip(line, pictures, strict=True):
            axes.imshow(pixels.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            _bare(axes)
    return figure


def waveforms(sounds: Mapping[str, Samples], rate: int, given: float) -> Figure:
    """Sounds (T,) one below the other over the seconds, grey up to where the beginning ends that all were given.

    given: seconds.
    """
    figure = Figure(figsize=(10, 1.1 * len(sounds) + 0.5), layout="constrained")
    rows = figure.subplots(len(sounds), squeeze=False, sharex=True, sharey=True)[:, 0]
    for number, (axes, (name, samples)) in enumerate(zip(rows, sounds.items(), strict=True)):
        seconds, cut = np.arange(len(samples)) / rate, round(given * rate)
        axes.plot(seconds[:cut], samples[:cut] / FULL_SCALE, color="0.6", linewidth=0.6)
        axes.plot(seconds[cut:], samples[cut:] / FULL_SCALE, color=f"C{number}", linewidth=0.6)
        axes.axvline(given, color="black", linewidth=1)
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
        axes.set_yticks(())
    rows[-1].set_xlabel("seconds")
    return figure


def _bare(axes: Axes) -> None:
    axes.set_xticks(())
    axes.set_yticks(())
