"""Part `lengths`: time of a step by length of the sequence, with patches that grow as its cube root."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise

import numpy as np

from benchmarks.harness.report import Cell, Table
from benchmarks.harness.timing import Conditions, interleave
from benchmarks.harness.workloads import Workload
from benchmarks.train_step.implementations import OURS, Implementation
from benchmarks.train_step.stepper import stepper
from megabyte_mm.models import MegabyteConfig, StackConfig

PATCH_SIZES = {13: 20, 14: 24, 15: 32, 16: 40, 17: 48, 18: 60, 19: 80, 20: 96, 21: 120}
"""By the length's power of two: near the length's cube root, where the paper's cost is least, and divisors of 480."""
TOY_PATCH_SIZES = {6: 4, 7: 5, 8: 6}
PAPERS_EXPONENT = 4 / 3
TITLE = "Step time by length"
GROWTH = "Growth with length"


def workload_of_length(power: int, tiny: bool = False) -> Workload:
    """One window of 2 ** power bytes, with the same two stacks at every length."""
    if tiny:
        wide, narrow = StackConfig(dim=60, layers=1, heads=2), StackConfig(dim=16, layers=1, heads=2)
    else:
        wide, narrow = StackConfig(dim=480, layers=3, heads=10), StackConfig(dim=96, layers=3, heads=3)
    patch_size = (TOY_PATCH_SIZES if tiny else PATCH_SIZES)[power]
    return Workload(f"2^{power}", MegabyteConfig(patch_size, 2**power, wide, narrow), batch=1)


def measure_lengths(workloads: Sequence[Workload], conditions: Conditions) -> list[Table]:
    """A row for each length (at least two, rising), and the exponent of a power law fitted to all of them."""
    ours = Implementation(OURS)
    with ExitStack() as stack:
        steppers = {one.name: stack.enter_context(stepper(ours, one, conditions, warm_up=0)) for one in workloads}
        times = interleave({name: steps.measure for name, steps in steppers.items()}, conditions.rounds)
    seconds = {one.window: times.median(one.name) for one in workloads}
    peaks = {one.window: steppers[one.name].peak_mebibytes() for one in workloads}
    table = _table(workloads, seconds, peaks)
    table.notes.append(f"One window, {ours.precision(conditions.device)}; the exponent is that since the row above.")
    exponent, _ = fit_power_law(list(seconds), list(seconds.values()))
    growth = Table(GROWTH, ("from", "to", "exponent", "paper's exponent"))
    growth.rows.append((workloads[0].window, workloads[-1].window, exponent, PAPERS_EXPONENT))
    growth.notes.append("The exponent is that of T in the time of a step, by least squares of the logarithms.")
    return [table, growth]


def fit_power_law(lengths: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Exponent and factor of the power law nearest to the times, by least squares of their logarithms."""
    exponent, intercept = np.polyfit(np.log(lengths), np.log(seconds), 1)
    return float(exponent), math.exp(intercept)


def _table(workloads: Sequence[Workload], seconds: Mapping[int, float], peaks: Mapping[int, float | None]) -> Table:
    columns = ("length", "patch size", "patches", "seconds per step", "bytes/s", "µs per byte", "exponent")
    table = Table(TITLE, (*columns, "peak memory MiB"))
    exponents: list[Cell] = [None, *(fit_power_law(pair, [seconds[n] for n in pair])[0] for pair in pairwise(seconds))]
    for workload, exponent in zip(workloads, exponents, strict=True):
        length, step = workload.window, seconds[workload.window]
        sizes = (length, workload.patch_size, -(-length // workload.patch_size))
        table.rows.append((*sizes, step, length / step, 1e6 * step / length, exponent, peaks[length]))
    return table
