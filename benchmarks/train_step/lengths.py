"""Part `lengths`: how the time of a step grows with the sequence, where patches grow as its cube root."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise

import numpy as np

from benchmarks.harness.report import Cell, Table
from benchmarks.harness.timing import in_turns
from benchmarks.harness.workloads import Workload
from benchmarks.train_step.implementations import OURS, Candidate
from benchmarks.train_step.stepper import Conditions, stepper
from megabyte_mm.models import MegabyteConfig, StackConfig

PATCH_SIZES = {13: 20, 14: 24, 15: 32, 16: 40, 17: 48, 18: 60, 19: 80, 20: 96, 21: 120}
"""By the length's power of two: near the length's cube root, where the paper's cost is least, and divisors of 480."""
TOY_PATCH_SIZES = {6: 4, 7: 5, 8: 6}
PAPERS_EXPONENT = 4 / 3
TITLE = "Step time by length"
GROWTH = "Growth with length"


def shape_of(power: int, toy: bool = False) -> Workload:
    """One window of 2 ** power bytes: at every length the same two stacks."""
    if toy:
        large, small = StackConfig(dim=60, layers=1, heads=2), StackConfig(dim=16, layers=1, heads=2)
    else:
        large, small = StackConfig(dim=480, layers=3, heads=10), StackConfig(dim=96, layers=3, heads=3)
    patch_size = (TOY_PATCH_SIZES if toy else PATCH_SIZES)[power]
    return Workload(f"2^{power}", MegabyteConfig(patch_size, 2**power, large, small), batch=1)


def time_lengths(shapes: Sequence[Workload], conditions: Conditions) -> list[Table]:
    """A row for each length (at least two, rising), and the exponent that fits all of them."""
    candidate = Candidate(OURS)
    with ExitStack() as stack:
        steppers = {
            shape.name: stack.enter_context(stepper(candidate, shape, conditions, warm_up=0)) for shape in shapes
        }
        times = in_turns({name: found.turn for name, found in steppers.items()}, conditions.more)
    seconds = {shape.window: times.median(shape.name) for shape in shapes}
    peaks = {shape.window: steppers[shape.name].peak_mebibytes() for shape in shapes}
    table = _table(shapes, seconds, peaks)
    table.notes.append(
        f"One window, {candidate.precision(conditions.device)}; the exponent is that since the row above."
    )
    exponent, _ = fitted(list(seconds), list(seconds.values()))
    growth = Table(GROWTH, ("from", "to", "exponent", "paper's exponent"))
    growth.rows.append((shapes[0].window, shapes[-1].window, exponent, PAPERS_EXPONENT))
    growth.notes.append("The exponent is that of T in the time of a step, by least squares of the logarithms.")
    return [table, growth]


def fitted(lengths: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Exponent and factor of the power law nearest to the times, by least squares of their logarithms."""
    exponent, intercept = np.polyfit(np.log(lengths), np.log(seconds), 1)
    return float(exponent), math.exp(intercept)


def _table(shapes: Sequence[Workload], seconds: Mapping[int, float], peaks: Mapping[int, float | None]) -> Table:
    columns = ("length", "patch size", "patches", "seconds per step", "bytes/s", "µs per byte", "exponent")
    table = Table(TITLE, (*columns, "peak memory MiB"))
    exponents: list[Cell] = [None, *(fitted(pair, [seconds[n] for n in pair])[0] for pair in pairwise(seconds))]
    for shape, exponent in zip(shapes, exponents, strict=True):
        length, step = shape.window, seconds[shape.window]
        sizes = (length, shape.patch_size, -(-length // shape.patch_size))
        table.rows.append((*sizes, step, length / step, 1e6 * step / length, exponent, peaks[length]))
    return table
