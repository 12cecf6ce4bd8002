"""Training speed and its growth with length, as a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.harness.report import Table
from benchmarks.train_step.lengths import fit_power_law

PLOTTED = ("speed", "lengths")
"""Parts that have a panel."""


def plot(tables: Mapping[str, list[Table]], path: Path) -> None:
    """Draw the first table of each part that has a panel, at least one, as a PNG file."""
    panels: dict[str, Callable[[Axes, Table], None]] = {"speed": _speed, "lengths": _lengths}
    parts = [part for part in PLOTTED if part in tables]
    figure = Figure(figsize=(7.5 * len(parts), 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    for part, axes in zip(parts, figure.subplots(1, len(parts), squeeze=False)[0], strict=True):
        panels[part](axes, tables[part][0])
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120, format="png")


def _speed(axes: Axes, table: Table) -> None:
    """Bytes a second: a group of bars for each workload, a bar for each implementation."""
    rates = {(row["workload"], row["implementation"]): row["bytes/s"] for row in table.records()}
    workloads = list(dict.fromkeys(workload for workload, _ in rates))
    names = list(dict.fromkeys(name for _, name in rates))
    width = 0.8 / len(names)
    centers = np.arange(len(workloads))
    for number, name in enumerate(names):
        heights = [float(rates.get((workload, name)) or 0.0) for workload in workloads]
        left = centers - 0.4 + (number + 0.5) * width
        axes.bar(left, heights, width, label=str(name), color=f"C{number}" if number < 10 else "black")
    axes.set_xticks(centers, [str(workload) for workload in workloads])
    axes.set_ylim(top=1.6 * axes.get_ylim()[1])  # room for the legend
    axes.set_ylabel("bytes/s in training")
    axes.legend(fontsize="x-small")


def _lengths(axes: Axes, table: Table) -> None:
    """Seconds of a step against bytes, and the power law fitted to them."""
    records = table.records()
    lengths = np.array([row["length"] for row in records], dtype=float)
    seconds = np.array([row["seconds per step"] for row in records], dtype=float)
    exponent, factor = fit_power_law(lengths.tolist(), seconds.tolist())
    axes.loglog(lengths, seconds, "o", label="a training step")
    axes.loglog(lengths, factor * lengths**exponent, "--", label=f"fitted: T ** {exponent:.3f}")
    axes.set_xlabel("T, bytes in a sequence")
    axes.set_ylabel("seconds per step")
    axes.legend()
