"""Bits per byte against training, as a picture."""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import Literal

from matplotlib.figure import Figure

from benchmarks.compare.results import Point, Results
from data_adapters import write_atomically

Progress = Literal["seconds", "flops"]

LABELS: dict[Progress, str] = {"seconds": "seconds of training", "flops": "training operations"}
"""Axis label of progress, by the field of a point that counts it."""


def plot(results: Results, path: Path, progress: Progress = "seconds") -> None:
    """Write `curves` as a PNG file."""
    figure = curves(results, progress)
    write_atomically(path, lambda file: figure.savefig(file, dpi=120))


def curves(results: Results, progress: Progress) -> Figure:
    """One line for each model, the mean over its seeds, in a band from the lowest to the highest.

    All points are of the same validation windows: final ones, which are of others, are in the table only.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(xlabel=LABELS[progress], ylabel="bits per byte, on the windows of --val_windows")
    for points in results.latest():
        if points[0].method != "plain":
            continue
        name = points[0].model
        milestones = _by_milestone(results, name)
        xs = [mean(float(getattr(point, progress)) for point in points_at) for points_at in milestones]
        bpbs = [[point.bpb for point in points_at] for points_at in milestones]
        [line] = axes.plot(xs, [mean(values) for values in bpbs], marker="o", label=name)
        lower, upper = [min(values) for values in bpbs], [max(values) for values in bpbs]
        axes.fill_between(xs, lower, upper, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _by_milestone(results: Results, model: str) -> list[list[Point]]:
    """A model's points at each milestone, of all seeds that have reached it."""
    by_share: dict[float, list[Point]] = {}
    for points in results.of_model(model).values():
        for point in points:
            if not point.final:
                by_share.setdefault(point.share, []).append(point)
    return [by_share[share] for share in sorted(by_share)]
