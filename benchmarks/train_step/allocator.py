"""Training steps on a CPU with and without kept freed memory.

`keep_freed_memory` changes the whole process for good. So two processes take the steps, one with it and one without,
each when the benchmark asks for one: they take turns like functions.
"""

from __future__ import annotations

import multiprocessing
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing.connection import Connection

import torch

from benchmarks.harness.report import Table
from benchmarks.harness.timing import side_by_side
from benchmarks.harness.training import PRECISIONS, training_step
from benchmarks.harness.workloads import Workload
from megabyte_mm.models import Megabyte
from megabyte_mm.training.trainer import keep_freed_memory


def time_kept_memory(workloads: list[Workload], device: torch.device, seconds: float) -> list[Table]:
    """One row for each config and precision."""
    columns = ("config", "precision", "kept ms", "given back ms", "given back / kept")
    table = Table("Training steps with and without kept freed memory", columns)
    if device.type != "cpu" or platform.libc_ver()[0] != "glibc":
        table.notes.append("Nothing to compare: freed memory is kept on a CPU with glibc only.")
        return [table]
    with ExitStack() as stack:
        workers = {name: stack.enter_context(_worker(keep=name == "kept")) for name in ("kept", "given back")}
        for workload in workloads:
            for precision in PRECISIONS:
                steps = {name: partial(_step, worker, workload, precision) for name, worker in workers.items()}
                times = side_by_side(steps, seconds / len(workloads) / len(PRECISIONS), device)
                milliseconds = (1e3 * times.median(name) for name in steps)
                table.rows.append((workload.name, precision, *milliseconds, times.ratio("given back", to="kept")))
    return [table]


@contextmanager
def _worker(keep: bool) -> Iterator[Connection]:
    """A process that takes a training step for each workload and precision that is sent to it."""
    # Both are forked from a process that has imported everything and computed nothing.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, keep, torch.get_num_threads()), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join()


def _step(worker: Connection, workload: Workload, precision: str) -> None:
    """Let it take one step, and wait until it has. Raises EOFError where it has ended, with its own message above."""
    worker.send((workload, precision))
    worker.recv()


def _work(benchmark: Connection, keep: bool, threads: int) -> None:
    torch.set_num_threads(threads)
    if keep:
        keep_freed_memory()
    known, step = None, None
    while True:
        try:
            asked: tuple[Workload, str] = benchmark.recv()
        except EOFError:
            return
        if step is None or asked != known:
            workload, precision = known = asked
            ids_BT = workload.ids(workload.batch, workload.window, torch.device("cpu"))
            step = training_step(Megabyte(workload.config), ids_BT, precision)
        step()
        benchmark.send(None)
