"""All runs of a comparison, trained in turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from benchmarks.compare.experiment import Entry
from benchmarks.compare.results import Point
from benchmarks.compare.run import Run
from megabyte_mm.data.module import ByteData
from megabyte_mm.evaluation import Method


class Validation:
    """Validates runs on the same windows: `windows` at every milestone, `final_windows` (None: all) at the end."""

    def __init__(self, path: str, windows: int | None, final_windows: int | None) -> None:
        self._path, self._windows, self._final_windows = path, windows, final_windows
        self._opened: dict[str, ByteData] = {}

    def points(self, run: Run, share: float) -> Iterator[Point]:
        """A point of the run's curve, and at the end a final one for each method of its entry."""
        yield _point(run, share, self._data(run.entry, self._windows))
        if share == 1.0:
            for method in run.entry.methods:
                yield _point(run, share, self._data(run.entry, self._final_windows), method, final=True)

    def _data(self, entry: Entry, windows: int | None) -> ByteData:
        """Opened once for all models that read the data in the same form."""
        key = json.dumps([entry.data, windows])
        if key not in self._opened:
            self._opened[key] = entry.open_data(self._path, seed=0, val_windows=windows)
        return self._opened[key]


def _point(run: Run, share: float, data: ByteData, method: Method = "plain", final: bool = False) -> Point:
    return Point(
        *(run.entry.name, run.seed, share, run.seconds, run.steps, run.bytes),
        bpb=run.validate(data, method),
        bytes_per_second=run.peak_rate,
        parameters=run.parameters,
        flops=run.flops,
        method=method,
        final=final,
    )


def train_interleaved(
    runs: list[Run], seconds: float, validate: Callable[[Run, float], Iterator[Point]]
) -> Iterator[list[Point]]:
    """Train all runs to their ends, in slices of so many seconds; every other round runs backwards.

    Yields the points of each run that reached a milestone: `validate` of the run and its share.
    """
    runs = list(runs)
    while any(run.milestones for run in runs):
        for run in runs:
            if run.milestones:
                run.train(seconds)
                if (share := run.reach_milestone()) is not None:
                    yield list(validate(run, share))
        runs.reverse()
