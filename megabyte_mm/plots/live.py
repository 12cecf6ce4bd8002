"""The curve of a run that is still going on."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

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
