"""Workers that take training steps, as candidates that take turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from statistics import median

import torch
from torch import Tensor

from benchmarks.harness.timing import calls_in_a_turn, timed
from benchmarks.harness.workers import Worker, worker
from benchmarks.harness.workloads import Workload
from benchmarks.train_step.implementations import About, Candidate, Turn, start_steps

TURN_SECONDS = 0.2
"""A turn is at least so long: its first step finds the processor's caches full of another's data."""
PRODUCT_SECONDS = 0.1
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Conditions:
    """How steps are measured.

    Args:
        device: Where they are taken.
        threads: CPU threads of each worker.
        rounds: Turns of each candidate.
    """

    device: torch.device
    threads: int
    rounds: int

    def more(self, rounds: int) -> bool:
        """Whether that many rounds are too few."""
        return rounds < self.rounds


@dataclass
class Stepper:
    """A candidate at work."""

    worker: Worker
    calls: int = 1
    peaks: list[int | None] = field(default_factory=list)

    @property
    def about(self) -> About:
        """What its model is."""
        found: About = self.worker.about
        return found

    def turn(self) -> float:
        """Let it take its steps: the seconds of each."""
        return self._take(self.calls)

    def warm_up(self, steps: int) -> None:
        """Take so many steps before, and find out how many make a turn; peaks are counted from here."""
        for _ in range(steps):
            self._take(1)
        self.calls = calls_in_a_turn(self._take, TURN_SECONDS)
        self.peaks.clear()

    def peak_mebibytes(self) -> float | None:
        """The highest peak of its turns; None where none was told."""
        found = [peak for peak in self.peaks if peak is not None]
        return max(found) / MEBIBYTE if found else None

    def _take(self, steps: int) -> float:
        turn: Turn = self.worker.ask(steps)
        self.peaks.append(turn.peak)
        return turn.seconds


@contextmanager
def stepper(candidate: Candidate, shape: Workload, conditions: Conditions, warm_up: int) -> Iterator[Stepper]:
    """A warm candidate in a process of its own, which ends with the block."""
    start = partial(start_steps, candidate, shape, conditions.device)
    with worker(f"{candidate.name}, {shape.name}", start, conditions.threads) as found:
        steps = Stepper(found)
        steps.warm_up(warm_up)
        yield steps


def start_products(precision: str, size: int, device: torch.device) -> tuple[None, Callable[[None], float]]:
    """For a worker: a function that tells the seconds of a product of two square matrices."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a_NN, b_NN = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

    def multiply() -> Tensor:
        return torch.mm(a_NN, b_NN)

    times = calls_in_a_turn(lambda calls: timed(multiply, calls, device), PRODUCT_SECONDS)
    return None, lambda _: median(timed(multiply, 1, device) for _ in range(times))
