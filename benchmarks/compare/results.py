"""Results of a comparison so far: points, a table, and the files that hold them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.harness.report import Cell, Table
from data_adapters import write_atomically, write_bytes


@dataclass(frozen=True)
class Point:
    """One validation of one run."""

    model: str
    seed: int
    share: float
    """Share of the run that was done."""
    seconds: float
    """The run's own training time."""
    steps: int
    bytes: int
    """Bytes trained on, repeated ones included."""
    bpb: float
    """Bits per byte; nan where training diverged."""
    bytes_per_second: float
    """Of the fastest slice so far."""
    parameters: int
    flops: float | None = None
    """Operations of its training steps; None for a peer, which counts none."""
    method: str = "plain"
    final: bool = False
    """Whether it is of the validation windows of finished runs; otherwise of those of every milestone."""


@dataclass
class Results:
    """All points in the order of their validations, the settings behind them, and notes on what is missing."""

    settings: dict[str, Any]
    points: list[Point] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of_model(self, model: str, method: str = "plain") -> dict[int, list[Point]]:
        """One model's points by seed."""
        by_seed: dict[int, list[Point]] = {}
        for point in self.points:
            if (point.model, point.method) == (model, method):
                by_seed.setdefault(point.seed, []).append(point)
        return by_seed

    def latest(self) -> list[list[Point]]:
        """The last point of each seed, for every model and method that has any: the best model first, nan last.

        It is the final one, unless the run is not finished.
        """
        kinds = dict.fromkeys((point.model, point.method) for point in self.points)
        last_points = [[points[-1] for points in self.of_model(*kind).values()] for kind in kinds]
        return sorted(last_points, key=lambda points: (math.isnan(_mean_bpb(points)), _mean_bpb(points)))

    def table(self) -> Table:
        """One row for each model and method, the best first."""
        seeds = sorted({point.seed for point in self.points})
        columns = ("model", "parameters", "seconds", "steps", "bytes seen", "peak bytes/s", "PFLOPs")
        table = Table(
            "Bits per byte on the validation data", (*columns, *(f"seed {s}" for s in seeds), "mean ± spread")
        )
        latest = self.latest()
        table.rows = [_row(points, seeds) for points in latest]
        table.notes = ["Numbers before the seeds are means over them; the spread is max - min.", *self.notes]
        unfinished = sorted(f"{p.model} (seed {p.seed})" for points in latest for p in points if not p.final)
        if unfinished:
            table.notes.append(f"Not finished, and validated on the windows of the plot: {', '.join(unfinished)}.")
        return table

    def write(self, folder: Path) -> None:
        """Replace results.json and table.md, each as a whole, so that an interrupted run leaves them readable."""
        points = [{**asdict(point), "bpb": None if math.isnan(point.bpb) else point.bpb} for point in self.points]
        record = {**self.settings, "notes": self.notes, "points": points}
        write_atomically(
            folder / "results.json", lambda file: file.write_text(f"{json.dumps(record, indent=1)}\n", "utf-8")
        )
        write_bytes(folder / "table.md", f"{self.table().text()}\n".encode())


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
        f"{_mean_bpb(points):.4f}" + (f" ± {spread:.4f}" if len(points) > 1 else ""),
    )


def _mean_pflops(points: list[Point]) -> float | None:
    counted = [point.flops for point in points if point.flops is not None]
    return mean(counted) / 1e15 if counted else None


def _mean_bpb(points: list[Point]) -> float:
    return mean(point.bpb for point in points)
