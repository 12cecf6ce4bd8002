"""Curves of a run's logged metrics over its updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, ScalarFormatter

from megabyte_mm.plots.style import INK, RULE, SOURCES, TRAIN, VAL, Floats

Points = Sequence[tuple[int, float]]
"""(updates done, value) pairs."""

MAX_POINTS = 1000
"""Points of a line that are drawn; more would enlarge the page and not be visible."""
MAX_MARKERS = 40
"""Lines of at most so many points have a marker at each."""
SMOOTHING = 12
"""The smoothed training loss is a running mean over a 12th of its values."""


def learning_curve(train: Points, val: Points, steps: int) -> Figure:
    """Draw bits per byte while a run goes on: a line for training batches, a dot for each validation.

    steps: of the whole run, which the axis spans from the start.
    """
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(*_columns(train), color="C0", linewidth=1, label="training, a batch")
    axes.plot(*_columns(val), "o", color="C1", label="validation, all files", clip_on=False, zorder=3)
    axes.axhline(8.0, color="0.6", linestyle=":", linewidth=1)
    axes.set_xlim(0, steps)
    axes.set_xlabel("step")
    axes.set_ylabel("bits per byte")
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right")
    latest = [f"{name} {points[-1][1]:.3f}" for name, points in (("training", train), ("validation", val)) if points]
    axes.set_title(", ".join(latest), loc="left", size=10)
    return figure


def bits_curves(
    train: Points, val: Points, sources: Mapping[str, Points], size: tuple[float, float] = (10.0, 3.8)
) -> Figure:
    """Draw bits per byte of training batches, of validation, and of each source of a mix by its name.

    size: width and height in inches; text keeps its size, and so is larger in relation to a smaller figure.
    """
    figure, axes = _subplots(*size)
    if train:
        columns = _columns(train)
        axes.plot(*_thin(columns), color=TRAIN, linewidth=0.8, alpha=0.5)
        axes.plot(*_thin(smooth(*columns)), color=TRAIN, linewidth=1.8, label="training")
    _draw_line(axes, val, VAL, "validation", 2.2)
    for number, (name, points) in enumerate(sources.items()):
        _draw_line(axes, points, SOURCES[number % len(SOURCES)], "validation, " + name.replace("$", r"\$"), 1.4)
    axes.set_ylabel("bits per byte")
    if train or val:
        figure.legend(loc="outside upper left", frameon=False, labelcolor=INK, ncols=2 + len(sources))
    return figure


def metric_curve(points: Points, label: str) -> Figure:
    """Draw one metric on an axis from zero. label: its name with the unit."""
    figure, axes = _subplots(5.0, 2.6)
    _draw_line(axes, points, TRAIN, label, 1.6, mark=len(points) == 1)
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    largest = max((value for _, value in points), default=0)
    axes.yaxis.set_major_formatter(EngFormatter(sep="") if largest >= 1000 else "{x:g}")
    return figure


def smooth(steps: Floats, values: Floats, parts: int = SMOOTHING) -> tuple[Floats, Floats]:
    """Running means over a `parts`-th of the values (at least one), at their mean steps: (n,) -> (m,), twice."""
    window = max(1, len(values) // parts)
    kernel = np.full(window, 1 / window)
    return np.convolve(steps, kernel, "valid"), np.convolve(values, kernel, "valid")


def _subplots(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.subplots()
    axes.patch.set_visible(False)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(colors=INK, length=0)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.set_xlabel("updates")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    return figure, axes


def _draw_line(axes: Axes, points: Points, color: str, label: str, width: float, mark: bool = True) -> None:
    if points:
        marker = "o" if mark and len(points) <= MAX_MARKERS else ""
        axes.plot(*_thin(_columns(points)), color=color, label=label, linewidth=width, marker=marker, markersize=4)


def _thin(columns: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Evenly spaced points, at most MAX_POINTS, with the first and the last."""
    chosen = np.unique(np.linspace(0, len(columns[0]) - 1, MAX_POINTS).round().astype(int))
    return columns[0][chosen], columns[1][chosen]


def _columns(points: Points) -> tuple[Floats, Floats]:
    steps, values = np.array(points, dtype=np.float64).reshape(-1, 2).T
    return steps, values
