"""Curves of a run: what was logged, by updates done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, ScalarFormatter
from numpy.typing import NDArray

Curve = Sequence[tuple[int, float]]


def learning_curve(train: Curve, val: Curve, steps: int) -> Figure:
    """Bits per byte over the steps of a run: a line of training, a dot for each validation.

    train, val: (step, bits per byte) each, so far. steps: of the whole run; the axis is as long from the start on.
    """
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(*_split(train), color="C0", linewidth=1, label="training, a batch")
    axes.plot(*_split(val), "o", color="C1", label="validation, all files", clip_on=False, zorder=3)
    axes.axhline(8.0, color="0.6", linestyle=":", linewidth=1)
    axes.set_xlim(0, steps)
    axes.set_xlabel("step")
    axes.set_ylabel("bits per byte")
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right")
    latest = [f"{name} {curve[-1][1]:.3f}" for name, curve in (("training", train), ("validation", val)) if curve]
    axes.set_title(", ".join(latest), loc="left", size=10)
    return figure


def _split(curve: Curve) -> tuple[list[int], list[float]]:
    return [step for step, _ in curve], [value for _, value in curve]


Points = Sequence[tuple[int, float]]
Floats = NDArray[np.float64]

INK, RULE, TRAIN, VAL = "#5d6772", "#dfe3e8", "#8a97a8", "#c2410c"
PARTS = ("#2563eb", "#0f8a5f", "#b8860b", "#9333ea")
"""Colours of the sources of a mix, one after the other."""

MOST = 1000
"""Points of a line that are drawn at most: more would make the page large, and none of it clearer."""
MARKED = 40
"""Up to so many points of a line are marked one by one."""
SMOOTH = 12
"""The smooth line of the training loss takes the mean of so many parts of it, each at least a value."""


def bits_curves(
    train: Points, val: Points, parts: Mapping[str, Points], size: tuple[float, float] = (10.0, 3.8)
) -> Figure:
    """Bits per byte: of training batches and of validation, and that of each source of a mix by its name.

    size: width and height in inches; text keeps its size, and so stands out the more in a smaller figure.
    """
    figure, axes = _axes(*size)
    if train:
        columns = _columns(train)
        axes.plot(*_thinned(columns), color=TRAIN, linewidth=0.8, alpha=0.5)
        axes.plot(*_thinned(smooth(*columns)), color=TRAIN, linewidth=1.8, label="training")
    _line(axes, val, VAL, "validation", 2.2)
    for number, (name, points) in enumerate(parts.items()):
        _line(axes, points, PARTS[number % len(PARTS)], "validation, " + name.replace("$", r"\$"), 1.4)
    axes.set_ylabel("bits per byte")
    if train or val:
        figure.legend(loc="outside upper left", frameon=False, labelcolor=INK, ncols=2 + len(parts))
    return figure


def metric_curve(points: Points, label: str) -> Figure:
    """One metric from zero up, such as the learning rate or the speed. label: what it is, with its unit."""
    figure, axes = _axes(5.0, 2.6)
    _line(axes, points, TRAIN, label, 1.6, mark=len(points) == 1)
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    largest = max((value for _, value in points), default=0)
    axes.yaxis.set_major_formatter(EngFormatter(sep="") if largest >= 1000 else "{x:g}")
    return figure


def smooth(steps: Floats, values: Floats, parts: int = SMOOTH) -> tuple[Floats, Floats]:
    """Running means, each over a `parts`-th of the values and at the mean of their steps: (n,) -> (m,), twice."""
    window = max(1, len(values) // parts)
    kernel = np.full(window, 1 / window)
    return np.convolve(steps, kernel, "valid"), np.convolve(values, kernel, "valid")


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
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


def _line(axes: Axes, points: Points, color: str, label: str, width: float, mark: bool = True) -> None:
    if points:
        marker = "o" if mark and len(points) <= MARKED else ""
        axes.plot(*_thinned(_columns(points)), color=color, label=label, linewidth=width, marker=marker, markersize=4)


def _thinned(columns: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Every so-manieth point, and the last one."""
    chosen = np.unique(np.linspace(0, len(columns[0]) - 1, MOST).round().astype(int))
    return columns[0][chosen], columns[1][chosen]


def _columns(points: Points) -> tuple[Floats, Floats]:
    steps, values = np.array(points, dtype=np.float64).reshape(-1, 2).T
    return steps, values
