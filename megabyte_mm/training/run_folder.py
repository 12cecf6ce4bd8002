"""What lies in the folder of a run: metrics and samples of all its versions as if it had never been interrupted."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Points = tuple[tuple[int, float], ...]
"""(updates done, value), in order."""

CHECKPOINTS = ("best.ckpt", "last.ckpt")


@dataclass(frozen=True)
class Run:
    """The folder of a run. versions: its log folders, one for each time that it was started, oldest first."""

    folder: Path
    versions: tuple[Path, ...]

    @property
    def config(self) -> Path | None:
        """The config of the last start, None where none was kept."""
        found = [version / "config.yaml" for version in self.versions if (version / "config.yaml").is_file()]
        return found[-1] if found else None

    @property
    def checkpoint(self) -> Path | None:
        """best.ckpt, else last.ckpt, else None; a file or a folder of shards."""
        return next((self.folder / name for name in CHECKPOINTS if (self.folder / name).exists()), None)

    @property
    def samples(self) -> Mapping[int, Path]:
        """Updates done -> the folder of what was drawn then, in order; of two versions, that of the later one."""
        found = {}
        for version in self.versions:
            for folder in version.glob("samples/step-*"):
                if (step := re.fullmatch(r"step-(\d+)", folder.name)) and folder.is_dir():
                    found[int(step[1])] = folder
        return dict(sorted(found.items()))


def open_run(folder: Path) -> Run:
    """The run in a folder. Raises ValueError where there is none."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    versions = {
        int(number[1]): path
        for path in folder.glob("logs/version_*")
        if (number := re.fullmatch(r"version_(\d+)", path.name)) and path.is_dir()
    }
    run = Run(folder, tuple(versions[number] for number in sorted(versions)))
    if not run.versions and run.checkpoint is None:
        raise ValueError(f"{folder}: not the folder of a run: neither logs/version_N nor a checkpoint lies in it")
    return run


def read_metrics(run: Run) -> dict[str, Points]:
    """Each metric that was logged, by name; values that are not finite are left out.

    A version that was started later goes on from a checkpoint: from its first row on, what an earlier one logged is
    dropped. Raises ValueError for a file that is no metrics.csv.
    """
    kept: dict[str, dict[int, float]] = {}
    for version in run.versions:
        rows = list(_rows(version / "metrics.csv"))
        first = min((step for step, _, _ in rows), default=math.inf)
        kept = {name: {step: its[step] for step in its if step < first} for name, its in kept.items()}
        for step, name, value in rows:
            kept.setdefault(name, {})[step] = value
    return {name: tuple(sorted(its.items())) for name, its in sorted(kept.items()) if its}


def _rows(path: Path) -> Iterator[tuple[int, str, float]]:
    """(updates done, metric, value) of each cell that holds a finite number."""
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        try:
            for row in reader:
                step = int(row.pop("step")) + 1  # Lightning counts the updates from 0
                values = {name: float(cell) for name, cell in row.items() if name and cell}
                yield from ((step, name, value) for name, value in values.items() if math.isfinite(value))
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            line = reader.line_num + isinstance(error, csv.Error)  # which does not count the line that it is about
            raise ValueError(f"{path}: line {line} is not of a metrics.csv") from error


def best_point(points: Points) -> tuple[int, float] | None:
    """The point of the lowest value, the first of several; None where there is none."""
    return min(points, key=lambda point: point[1], default=None)


def evenly_spaced(count: int, limit: int) -> list[int]:
    """At most `limit` of the numbers 0 to count - 1, evenly spaced, the first and the last among them."""
    if count <= limit:
        return list(range(count))
    if limit == 1:
        return [count - 1]
    return [round(index * (count - 1) / (limit - 1)) for index in range(limit)]


def common_prefix_length(files: Sequence[bytes]) -> int:
    """How many bytes all of several files begin with alike; 0 for fewer than two."""
    if len(files) < 2:
        return 0
    shortest, longest = min(files), max(files)
    return next((i for i, byte in enumerate(shortest) if i >= len(longest) or byte != longest[i]), len(shortest))
