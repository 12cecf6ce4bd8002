"""The folder of a run: metrics and samples of all its starts, joined as if it had never been interrupted."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Points = tuple[tuple[int, float], ...]
"""(updates done, value), in order."""
Metrics = Mapping[str, Points]
"""Points by the metric's name."""

CHECKPOINTS = ("best.ckpt", "last.ckpt")


@dataclass(frozen=True)
class Run:
    """The folder of a run. versions: its log folders, one for each start, oldest first."""

    folder: Path
    versions: tuple[Path, ...]

    @property
    def config(self) -> Path | None:
        """The config of the last start, None without one."""
        # A logger without a folder here leaves the config in that of the run.
        configs = [folder / "config.yaml" for folder in (self.folder, *self.versions)]
        present = [path for path in configs if path.is_file()]
        return max(present, key=lambda path: (path.stat().st_mtime, configs.index(path)), default=None)

    @property
    def checkpoint(self) -> Path | None:
        """best.ckpt, else last.ckpt, else None; a file or a folder of shards."""
        return next((self.folder / name for name in CHECKPOINTS if (self.folder / name).exists()), None)

    @property
    def samples(self) -> Mapping[int, Path]:
        """Folders of samples by updates done, in order; of two starts, that of the later one."""
        folders = {}
        for version in (self.folder, *self.versions):
            for folder in version.glob("samples/step-*"):
                if (step := re.fullmatch(r"step-(\d+)", folder.name)) and folder.is_dir():
                    folders[int(step[1])] = folder
        return dict(sorted(folders.items()))


def open_run(folder: Path) -> Run:
    """Return the run in a folder. Raises ValueError where there is none."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    versions = [
        (int(number[1]), path)
        for path in folder.glob("*/version_*")  # logs/ is ours; other loggers have names of their own
        if (number := re.fullmatch(r"version_(\d+)", path.name)) and path.is_dir()
    ]
    run = Run(folder, tuple(path for _, path in sorted(versions)))
    if not run.versions and run.checkpoint is None:
        raise ValueError(f"{folder}: not the folder of a run: it has neither logs/version_N nor a checkpoint")
    return run


def read_metrics(run: Run) -> dict[str, Points]:
    """Return each logged metric by name; values that are not finite are left out.

    A later start resumes from a checkpoint: the rows of earlier ones are dropped from its first row on. Raises
    ValueError for a file that is not a metrics.csv.
    """
    metrics: dict[str, dict[int, float]] = {}
    for version in run.versions:
        rows = list(_rows(version / "metrics.csv"))
        first = min((step for step, _, _ in rows), default=math.inf)
        metrics = {name: {step: value for step, value in old.items() if step < first} for name, old in metrics.items()}
        for step, name, value in rows:
            metrics.setdefault(name, {})[step] = value
    return {name: tuple(sorted(values.items())) for name, values in sorted(metrics.items()) if values}


def _rows(path: Path) -> Iterator[tuple[int, str, float]]:
    """Yield (updates done, metric, value) for each cell with a finite number."""
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
            line = reader.line_num + isinstance(error, csv.Error)  # csv.Error is raised before its line is counted
            raise ValueError(f"{path}: line {line} is not a row of a metrics.csv") from error


def best_point(points: Points) -> tuple[int, float] | None:
    """Return the point of the lowest value, the first of several; None without points."""
    return min(points, key=lambda point: point[1], default=None)


def evenly_spaced(count: int, limit: int) -> list[int]:
    """Return at most `limit` of the numbers 0 to count - 1, evenly spaced, the first and the last included."""
    if count <= limit:
        return list(range(count))
    if limit == 1:
        return [count - 1]
    return [round(index * (count - 1) / (limit - 1)) for index in range(limit)]


def common_prefix_length(files: Sequence[bytes]) -> int:
    """Return the length of the longest common prefix of several files; 0 for fewer than two."""
    if len(files) < 2:
        return 0
    shortest, longest = min(files), max(files)
    return next((i for i, byte in enumerate(shortest) if i >= len(longest) or byte != longest[i]), len(shortest))
