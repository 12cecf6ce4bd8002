"""The folder of a run: metrics and samples of all its versions, joined as if it had never been interrupted."""

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
    """The folder of a run. versions: its log folders, one for each start of the run, oldest first."""

    folder: Path
    versions: tuple[Path, ...]

    @property
    def config(self) -> Path | None:
        """The config of the last start; None without one."""
        paths = [version / "config.yaml" for version in self.versions]
        return next((path for path in reversed(paths) if path.is_file()), None)

    @property
    def checkpoint(self) -> Path | None:
        """best.ckpt, else last.ckpt, else None; a file or a folder of shards."""
        return next((self.folder / name for name in CHECKPOINTS if (self.folder / name).exists()), None)

    @property
    def samples(self) -> Mapping[int, Path]:
        """Updates done -> the folder of samples, in order; of two versions, the later one's."""
        folders = {}
        for version in self.versions:
            for folder in version.glob("samples/step-*"):
                if (step := re.fullmatch(r"step-(\d+)", folder.name)) and folder.is_dir():
                    folders[int(step[1])] = folder
        return dict(sorted(folders.items()))


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
    """The points of each logged metric by name, without values that are not finite.

    A later version resumes from a checkpoint, so the rows of earlier ones are dropped from its first row on. Raises
    ValueError for a file that is no metrics.csv.
    """
    points: dict[str, dict[int, float]] = {}
    for version in run.versions:
        rows = list(_rows(version / "metrics.csv"))
        first = min((step for step, _, _ in rows), default=math.inf)
        points = {name: {step: row[step] for step in row if step < first} for name, row in points.items()}
        for step, name, value in rows:
            points.setdefault(name, {})[step] = value
    return {name: tuple(sorted(row.items())) for name, row in sorted(points.items()) if row}


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
            line = reader.line_num + isinstance(error, csv.Error)  # it does not count the line that it refers to
            raise ValueError(f"{path}: line {line} is not of a metrics.csv") from error


def best_point(points: Points) -> tuple[int, float] | None:
    """The point of the lowest value, the first of several; None without points."""
    return min(points, key=lambda point: point[1], default=None)


def evenly_spaced(count: int, limit: int) -> list[int]:
    """At most `limit` of the numbers 0 to count - 1, evenly spaced, the first and the last among them."""
    if count <= limit:
        return list(range(count))
    if limit == 1:
        return [count - 1]
    return [round(index * (count - 1) / (limit - 1)) for index in range(limit)]


def common_prefix_length(files: Sequence[bytes]) -> int:
    """The length of the longest prefix that all files share; 0 for fewer than two files."""
    if len(files) < 2:
        return 0
    shortest, longest = min(files), max(files)
    return next((i for i, byte in enumerate(shortest) if i >= len(longest) or byte != longest[i]), len(shortest))
