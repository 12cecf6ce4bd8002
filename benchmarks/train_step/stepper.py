"""Workers that take training steps or multiply matrices, as `interleave` measures them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from statistics import median

import torch
from torch import Tensor

from benchmarks.harness.memory import MEBIBYTE
from benchmarks.harness.timing import Conditions, calls_lasting, timed
from benchmarks.harness.workers import Worker, worker
from benchmarks.harness.workloads import Workload
from benchmarks.train_step.implementations import Implementation, Measurement, ModelInfo, set_up_steps

MIN_SECONDS = 0.2
"""A measurement takes at least so long: its first step finds the processor's caches full of another process's data."""
PRODUCT_SECONDS = 0.1


@dataclass
class Stepper:
    """A worker that takes training steps."""

    worker: Worker
    steps: int = 1
    peaks: list[int | None] = field(default_factory=list)

    @property
    def info(self) -> ModelInfo:
        """Size and operations of its model."""
        info: ModelInfo = self.worker.info
        return info

    def measure(self) -> float:
        """Take steps: the seconds of one."""
        return self._take(self.steps)

    def warm_up(self, steps: int) -> None:
        """Take so many steps, then find out how many make a measurement; peaks are counted from here."""
        for _ in range(steps):
            self._take(1)
        self.steps = calls_lasting(MIN_SECONDS, self._take)
        self.peaks.clear()

    def peak_mebibytes(self) -> float | None:
        """The highest peak of its measurements; None where the system counts none."""
        known = [peak for peak in self.peaks if peak is not None]
        return max(known) / MEBIBYTE if known else None

    def _take(self, steps: int) -> float:
        measurement: Measurement = self.worker.call(steps)
        self.peaks.append(measurement.peak)
        return measurement.seconds


@contextmanager
def stepper(
    implementation: Implementation, workload: Workload, conditions: Conditions, warm_up: int
) -> Iterator[Stepper]:
    """A warm implementation in a process of its own, which ends with the block."""
    setup = partial(set_up_steps, implementation, workload, conditions.device)
    with worker(f"{implementation.name}, {workload.name}", setup, conditions.threads) as process:
        steps = Stepper(process)
        steps.warm_up(warm_up)
        yield steps


def set_up_products(precision: str, size: int, device: torch.device) -> tuple[None, Callable[[None], float]]:
    """For a worker: a function that returns the seconds of a product of two square matrices."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a_NN, b_NN = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

    def multiply() -> Tensor:
        return torch.mm(a_NN, b_NN)

    repeats = calls_lasting(PRODUCT_SECONDS, lambda calls: timed(multiply, calls, device))
    return None, lambda _: median(timed(multiply, 1, device) for _ in range(repeats))
