"""Several models on the same files."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def bits_bars(bits: Mapping[str, float]) -> Figure:
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
