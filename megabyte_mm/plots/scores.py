"""Figures of scores: bits by position, and several models on the same files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

Floats = NDArray[np.float64]

POINTS = 128
"""A window is drawn as the means of at most so many stretches: single positions are too noisy to read."""


def position_curves(curves: Mapping[str, tuple[Floats, Floats]]) -> Figure:
    """Mean bits by position in the patch (left) and in the window (right), a line for each method.

    curves: method -> bits at each place in the patch (P,) and in the window (W,), nan where nothing stood there.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    in_patch, in_window = figure.subplots(1, 2)
    for number, (method, (patch, window)) in enumerate(curves.items()):
        # Later lines leave gaps, so that one that is the same as an earlier one hides nothing.
        style: dict[str, Any] = {"label": method, "linestyle": (0, (6, 4 * number)) if number else "-"}
        in_patch.plot(np.arange(len(patch)), patch, marker=".", **style)
        in_window.plot(*stretches(window, len(patch)), **style)
    _name(in_patch, "position in the patch")
    _name(in_window, "position in the window")
    in_patch.legend()
    return figure


def stretches(values: Floats, patch_size: int = 1, points: int = POINTS) -> tuple[Floats, Floats]:
    """Middle and mean of at most `points` stretches of whole patches, nan left out: (W,) -> twice (n,)."""
    patches = -(-len(values) // patch_size)
    length = -(-patches // points) * patch_size
    cuts = [np.arange(first, min(first + length, len(values))) for first in range(0, len(values), length)]
    known = [cut[~np.isnan(values[cut])] for cut in cuts]
    filled = [(cut.mean(), values[cut].mean()) for cut in known if len(cut)]
    middles, means = np.array(filled).reshape(-1, 2).T
    return middles, means


def _name(axes: Axes, position: str) -> None:
    axes.set_xlabel(position)
    axes.set_ylabel("bits per symbol")
    axes.grid(alpha=0.3)


def bits_per_byte_bars(bits: Mapping[str, float]) -> Figure:
    """Bits per byte of each model as bars, with the figures beside them; the first model on top."""
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
    """Bits per byte of each file under the first model (across) and under each other one (up).

    bits: model -> (files,). A file below the diagonal costs the other model less.
    """
    first, *others = bits
    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    axes = figure.subplots()
    for number, name in enumerate(others, start=1):
        cheaper = int((bits[name] < bits[first]).sum())
        label = f"{name}: better on {cheaper} of {len(bits[name])}"
        axes.plot(bits[first], bits[name], ".", color=f"C{number}", alpha=0.7, label=label)
    highest = 1.05 * max(float(its.max(initial=0.0)) for its in bits.values())
    axes.plot((0, highest), (0, highest), color="0.5", linewidth=1, linestyle="--")
    axes.set_xlim(0, highest)
    axes.set_ylim(0, highest)
    axes.set_aspect("equal")
    axes.set_xlabel(f"{first}: bits per byte")
    axes.set_ylabel("the others: bits per byte")
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3)
    return figure
