"""All runs of a comparison taking turns, so that whatever else the machine does slows all of them alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from benchmarks.comparison.experiment import Entry
from benchmarks.comparison.results import Point
from benchmarks.comparison.runs import Run
from megabyte_mm.data.module import ByteData


class Validation:
    """Measures runs on the same windows: some of them on the way, others (or all, where None) at the end."""

    def __init__(self, path: str, windows: int | None, final_windows: int | None) -> None:
        self._path, self._windows, self._final_windows = path, windows, final_windows
        self._opened: dict[str, ByteData] = {}

    def points(self, run: Run, share: float) -> Iterator[Point]:
        """What the run has reached: one point on the way, and at the end one for each method of its entry."""
        final = share == 1.0
        data = self._data(run.entry, self._final_windows if final else self._windows)
        for method in run.entry.methods if final else ("plain",):
            yield Point(
                *(run.entry.name, run.seed, share, run.seconds, run.steps, run.bytes),
                bpb=run.validate(data, method),
                bytes_per_second=run.peak_rate,
                parameters=run.parameters,
                flops=run.flops,
                method=method,
            )

    def _data(self, entry: Entry, windows: int | None) -> ByteData:
        """Opened once for all models that read the data in the same form."""
        key = json.dumps([entry.data, windows])
        if key not in self._opened:
            self._opened[key] = entry.open_data(self._path, seed=0, val_windows=windows)
        return self._opened[key]


def take_turns(
    runs: list[Run], seconds: float, validate: Callable[[Run, float], Iterator[Point]]
) -> Iterator[list[Point]]:
    """Train all runs to their ends, in slices of so many seconds; every other round goes backwards.

    Yields the points of each run that was validated, as `validate` makes them of it and the share of it that is done.
    """
    runs = list(runs)
    while any(run.milestones for run in runs):
        for run in runs:
            if run.milestones:
                run.train(seconds)
                if (share := run.reach_milestone()) is not None:
                    yield list(validate(run, share))
        runs.reverse()
