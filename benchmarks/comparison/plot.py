"""Bits per byte against seconds of training, as a picture."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure

from benchmarks.comparison.results import Point, Results, replace_file


def draw(results: Results, path: Path) -> None:
    """One line for each model, the mean over its seeds, in a band from the lowest to the highest."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="seconds of training", ylabel="bits per byte")
    for points in results.latest():
        name = points[0].model
        if points[0].method != "plain":
            continue
        reached = _by_share(results, name)
        seconds = [mean(point.seconds for point in level) for level in reached]
        heights = [[point.bpb for point in level] for level in reached]
        [line] = axes.plot(seconds, [mean(level) for level in heights], marker="o", label=name)
        lower, upper = [min(level) for level in heights], [max(level) for level in heights]
        axes.fill_between(seconds, lower, upper, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.grid(alpha=0.3)
    axes.legend()
    replace_file(path, lambda file: figure.savefig(file, dpi=120))


def _by_share(results: Results, model: str) -> list[list[Point]]:
    """The points at each milestone, of all seeds that have come so far."""
    levels: dict[float, list[Point]] = {}
    for points in results.of(model).values():
        for point in points:
            levels.setdefault(point.share, []).append(point)
    return [levels[share] for share in sorted(levels)]
