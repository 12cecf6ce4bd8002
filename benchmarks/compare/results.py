"""What a comparison has found so far: points, a table, and the files that hold them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.harness.report import Cell, Table
from data_adapters import write_atomically


@dataclass(frozen=True)
class Point:
    """One validation of one run."""

    model: str
    seed: int
    share: float
    """How much of the run was done."""
    seconds: float
    """Training time, the run's own."""
    steps: int
    bytes: int
    """Bytes trained on, repeated ones included."""
    bpb: float
    """Bits per byte; nan where training diverged."""
    bytes_per_second: float
    """Of the fastest slice so far."""
    parameters: int
    flops: float | None = None
    """Operations of its training steps; None for a model that does not tell them."""
    method: str = "plain"
    final: bool = False
    """Whether it is of the validation windows of finished runs; otherwise of those that every milestone has."""


@dataclass
class Results:
    """All points, in the order in which they were found, and what is to be known beside them."""

    about: dict[str, Any]
    points: list[Point] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of(self, model: str, method: str = "plain") -> dict[int, list[Point]]:
        """One model's points by seed."""
        found: dict[int, list[Point]] = {}
        for point in self.points:
            if (point.model, point.method) == (model, method):
                found.setdefault(point.seed, []).append(point)
        return found

    def latest(self) -> Iterator[list[Point]]:
        """The last point of each seed, for every model and method that has any: the best model first, nan last.

        It is the final one, unless the run is not finished.
        """
        kinds = dict.fromkeys((point.model, point.method) for point in self.points)
        lasts = [[points[-1] for points in self.of(*kind).values()] for kind in kinds]
        return iter(sorted(lasts, key=lambda points: (math.isnan(mean_bpb(points)), mean_bpb(points))))

    def table(self) -> Table:
        """One row for each model and method, the best first."""
        seeds = sorted({point.seed for point in self.points})
        columns = ("model", "parameters", "seconds", "steps", "bytes seen", "peak bytes/s", "PFLOPs")
        table = Table(
            "Bits per byte on the validation data", (*columns, *(f"seed {s}" for s in seeds), "mean ± spread")
        )
        table.rows = [_row(points, seeds) for points in self.latest()]
        table.notes = ["Numbers before the seeds are means over them; the spread is max - min.", *self.notes]
        latest = [point for points in self.latest() for point in points]
        if unfinished := sorted(f"{point.model} (seed {point.seed})" for point in latest if not point.final):
            table.notes.append(f"Not finished, and validated on the windows of the plot: {', '.join(unfinished)}.")
        return table

    def write(self, folder: Path) -> None:
        """results.json and table.md, each replaced as a whole, so that an interrupted run leaves them readable."""
        points = [{**asdict(point), "bpb": None if math.isnan(point.bpb) else point.bpb} for point in self.points]
        record = {**self.about, "notes": self.notes, "points": points}
        write_atomically(
            folder / "results.json", lambda file: file.write_text(f"{json.dumps(record, indent=1)}\n", "utf-8")
        )
        write_atomically(folder / "table.md", lambda file: file.write_text(f"{self.table().text()}\n", "utf-8"))


def _row(points: list[Point], seeds: list[int]) -> tuple[Cell, ...]:
    """A model's row of the table: its last points, one for each of its seeds."""
    first = points[0]
    name = first.model if first.method == "plain" else f"{first.model}, {first.method}"
    counts = ("parameters", "seconds", "steps", "bytes", "bytes_per_second")
    by_seed = {point.seed: f"{point.bpb:.4f}" for point in points}
    spread = max(p.bpb for p in points) - min(p.bpb for p in points)
    return (
        name,
        *(mean(float(getattr(point, count)) for point in points) for count in counts),
        _mean_pflops(points),
        *(by_seed.get(seed) for seed in seeds),
        f"{mean_bpb(points):.4f}" + (f" ± {spread:.4f}" if len(points) > 1 else ""),
    )


def _mean_pflops(points: list[Point]) -> float | None:
    told = [point.flops for point in points if point.flops is not None]
    return mean(told) / 1e15 if told else None


def mean_bpb(points: list[Point]) -> float:
    """The mean over seeds."""
    return mean(point.bpb for point in points)
