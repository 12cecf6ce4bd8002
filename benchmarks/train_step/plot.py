"""Training speed and its growth with length, as a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.harness.report import Table
from benchmarks.train_step.lengths import fitted

PLOTTED = ("speed", "lengths")
"""Parts that have a panel."""


def draw(tables: Mapping[str, list[Table]], path: Path) -> None:
    """Write the parts that have a panel, at least one, as a PNG file: the first table of each."""
    panels: dict[str, Callable[[Axes, Table], None]] = {"speed": _speed, "lengths": _lengths}
    parts = [part for part in PLOTTED if part in tables]
    figure = Figure(figsize=(7.5 * len(parts), 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    for part, axes in zip(parts, figure.subplots(1, len(parts), squeeze=False)[0], strict=True):
        panels[part](axes, tables[part][0])
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120, format="png")


def _speed(axes: Axes, table: Table) -> None:
    """Bytes a second: a group of bars for each shape, a bar for each implementation."""
    rates = {(row["shape"], row["implementation"]): row["bytes/s"] for row in table.records()}
    shapes = list(dict.fromkeys(shape for shape, _ in rates))
    names = list(dict.fromkeys(name for _, name in rates))
    width = 0.8 / len(names)
    places = np.arange(len(shapes))
    for number, name in enumerate(names):
        heights = [float(rates.get((shape, name)) or 0.0) for shape in shapes]
        left = places - 0.4 + (number + 0.5) * width
        axes.bar(left, heights, width, label=str(name), color=f"C{number}" if number < 10 else "black")
    axes.set_xticks(places, [str(shape) for shape in shapes])
    axes.set_ylim(top=1.6 * axes.get_ylim()[1])  # room for the legend
    axes.set_ylabel("bytes/s in training")
    axes.legend(fontsize="x-small")


def _lengths(axes: Axes, table: Table) -> None:
    """Seconds of a step against bytes, and the power law that fits them."""
    records = table.records()
    lengths = np.array([row["length"] for row in records], dtype=float)
    seconds = np.array([row["seconds per step"] for row in records], dtype=float)
    exponent, factor = fitted(lengths.tolist(), seconds.tolist())
    axes.loglog(lengths, seconds, "o", label="a training step")
    axes.loglog(lengths, factor * lengths**exponent, "--", label=f"fitted: T ** {exponent:.3f}")
    axes.set_xlabel("T, bytes in a sequence")
    axes.set_ylabel("seconds per step")
    axes.legend()
