"""Part `allocator`: training steps on a CPU with and without `keep_freed_memory`, which changes a process for good."""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import torch

from benchmarks.harness.report import Table
from benchmarks.harness.timing import Conditions, calls_lasting, interleave, timed
from benchmarks.harness.training import PRECISIONS, training_step
from benchmarks.harness.workers import worker
from benchmarks.harness.workloads import SHIPPED, Workload, shipped, toy
from benchmarks.train_step.stepper import MIN_SECONDS
from megabyte_mm.models import Megabyte
from megabyte_mm.training.trainer import keep_freed_memory


def measure_allocator(conditions: Conditions, tiny: bool) -> list[Table]:
    """One row for each shipped config and precision."""
    columns = ("config", "precision", "kept ms", "given back ms", "given back / kept")
    table = Table("Training steps with and without kept freed memory", columns)
    if conditions.device.type != "cpu" or platform.libc_ver()[0] != "glibc":
        table.notes.append("Nothing to compare: freed memory is kept on a CPU with glibc only.")
        return [table]
    for workload in [toy()] if tiny else map(shipped, SHIPPED):
        for precision in PRECISIONS:
            with ExitStack() as stack:
                measure = {}
                for name, keep in (("kept", True), ("given back", False)):
                    setup = partial(set_up_step, workload, precision, keep)
                    measure[name] = stack.enter_context(worker(name, setup, conditions.threads)).call
                times = interleave(measure, conditions.rounds)
            milliseconds = (1e3 * times.median(name) for name in measure)
            table.rows.append((workload.name, precision, *milliseconds, times.ratio("given back", to="kept")))
    return [table]


def set_up_step(workload: Workload, precision: str, keep: bool) -> tuple[None, Callable[[None], float]]:
    """For a worker: a function that returns the seconds of a training step."""
    if keep:
        keep_freed_memory()
    cpu = torch.device("cpu")
    step = training_step(Megabyte(workload.config), workload.ids(workload.batch, workload.window, cpu), precision)
    calls = calls_lasting(MIN_SECONDS, lambda calls: timed(step, calls, cpu))
    return None, lambda _: timed(step, calls, cpu)
