"""Bits per byte against the training that it took, as a picture."""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import Literal

from matplotlib.figure import Figure

from benchmarks.compare.results import Point, Results
from data_adapters import write_atomically

Progress = Literal["seconds", "flops"]

LABELS: dict[Progress, str] = {"seconds": "seconds of training", "flops": "training operations"}
"""What progress is called, by the field of a point that counts it."""


def draw(results: Results, path: Path, progress: Progress = "seconds") -> None:
    """Write `curves` as a PNG file."""
    figure = curves(results, progress)
    write_atomically(path, lambda file: figure.savefig(file, dpi=120))


def curves(results: Results, progress: Progress) -> Figure:
    """One line for each model, the mean over its seeds, in a band from the lowest to the highest.

    All its points are of the same validation windows: final ones, which are of others, are left to the table.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(xlabel=LABELS[progress], ylabel="bits per byte, on the windows of --val_windows")
    for points in results.latest():
        name = points[0].model
        if points[0].method != "plain":
            continue
        reached = _by_share(results, name)
        places = [mean(float(getattr(point, progress)) for point in level) for level in reached]
        heights = [[point.bpb for point in level] for level in reached]
        [line] = axes.plot(places, [mean(level) for level in heights], marker="o", label=name)
        lower, upper = [min(level) for level in heights], [max(level) for level in heights]
        axes.fill_between(places, lower, upper, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _by_share(results: Results, model: str) -> list[list[Point]]:
    """The points of the curve at each milestone, of all seeds that have come so far."""
    levels: dict[float, list[Point]] = {}
    for points in results.of(model).values():
        for point in points:
            if not point.final:
                levels.setdefault(point.share, []).append(point)
    return [levels[share] for share in sorted(levels)]
