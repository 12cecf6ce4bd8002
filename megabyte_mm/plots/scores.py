"""Figures of scores: bits by position, and several models on the same files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from megabyte_mm.plots.style import Floats

MAX_POINTS = 128
"""Points of a curve over the window; more would be too noisy to read."""


def position_curves(curves: Mapping[str, tuple[Floats, Floats]]) -> Figure:
    """Draw mean bits by position in the patch (left) and in the window (right), a line for each method.

    curves: method -> bits at each position of the patch (P,) and of the window (W,), nan where nothing was scored.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    in_patch, in_window = figure.subplots(1, 2)
    for number, (method, (patch, window)) in enumerate(curves.items()):
        # Later lines have gaps, so that equal earlier lines stay visible.
        style: dict[str, Any] = {"label": method, "linestyle": (0, (6, 4 * number)) if number else "-"}
        in_patch.plot(np.arange(len(patch)), patch, marker=".", **style)
        in_window.plot(*span_means(window, len(patch)), **style)
    _label_axes(in_patch, "position in the patch")
    _label_axes(in_window, "position in the window")
    in_patch.legend()
    return figure


def span_means(values: Floats, patch_size: int = 1, max_points: int = MAX_POINTS) -> tuple[Floats, Floats]:
    """Middle and mean of at most `max_points` spans of whole patches, ignoring nan: (W,) -> (n,) twice."""
    patches = -(-len(values) // patch_size)
    length = -(-patches // max_points) * patch_size
    spans = [np.arange(first, min(first + length, len(values))) for first in range(0, len(values), length)]
    scored = [span[~np.isnan(values[span])] for span in spans]
    points = [(span.mean(), values[span].mean()) for span in scored if len(span)]
    middles, means = np.array(points).reshape(-1, 2).T
    return middles, means


def _label_axes(axes: Axes, position: str) -> None:
    axes.set_xlabel(position)
    axes.set_ylabel("bits per symbol")
    axes.grid(alpha=0.3)


def bits_per_byte_bars(bits: Mapping[str, float]) -> Figure:
    """Draw bits per byte of each model as labelled bars, the first model on top."""
    figure = Figure(figsize=(8, 0.5 * len(bits) + 0.9), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(bits), list(bits.values()), color=[f"C{number}" for number in range(len(bits))])
    axes.bar_label(bars, fmt="%.3f", padding=4)
    axes.invert_yaxis()
    axes.set_xlabel("bits per byte")
    axes.set_xlim(0, 1.15 * max(bits.values(), default=1.0))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def file_scatter(bits: Mapping[str, Floats]) -> Figure:
    """Draw bits per byte of each file under the first model (across) against each other model (up).

    bits: model -> (files,). The other model is better on files below the diagonal.
    """
    first, *others = bits
    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    axes = figure.subplots()
    for number, name in enumerate(others, start=1):
        better = int((bits[name] < bits[first]).sum())
        label = f"{name}: better on {better} of {len(bits[name])}"
        axes.plot(bits[first], bits[name], ".", color=f"C{number}", alpha=0.7, label=label)
    highest = 1.05 * max(float(values.max(initial=0.0)) for values in bits.values())
    axes.plot((0, highest), (0, highest), color="0.5", linewidth=1, linestyle="--")
    axes.set_xlim(0, highest)
    axes.set_ylim(0, highest)
    axes.set_aspect("equal")
    axes.set_xlabel(f"{first}: bits per byte")
    axes.set_ylabel("the others: bits per byte")
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3)
    return figure
