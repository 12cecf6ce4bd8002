"""Curves of bits by position as a figure."""

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
