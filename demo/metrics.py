"""What Lightning's CSVLogger wrote down during training."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Points = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Curve:
    """Bits per byte against optimizer steps, in the order logged."""

    train: Points = ()
    val: Points = ()

    @property
    def best(self) -> float:
        """The lowest validation value, which is the one of best.ckpt. Raises ValueError where there is none."""
        if not self.val:
            raise ValueError("training logged no val/bpb")
        return min(value for _, value in self.val)


def read_curve(run: Path) -> Curve:
    """The curve of the newest metrics.csv below `run`. Raises FileNotFoundError where there is none."""
    return Curve(tuple(_column(run, "train/bpb")), tuple(_column(run, "val/bpb")))


def last_value(run: Path, column: str) -> float | None:
    """The last value of a column, None where the column was never logged."""
    values = [value for _, value in _column(run, column)]
    return values[-1] if values else None


def _column(run: Path, column: str) -> Iterator[tuple[int, float]]:
    """The finite values of a column; a row holds only what was logged together, the rest of it is empty."""
    logs = sorted(run.rglob("metrics.csv"), key=lambda path: path.stat().st_mtime)
    if not logs:
        raise FileNotFoundError(f"{run}: training left no metrics.csv")
    with logs[-1].open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row.get(column) and math.isfinite(value := float(row[column])):
                yield int(row["step"]), value
