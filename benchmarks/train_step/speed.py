"""Part `speed`: steps of all implementations at equal sizes, against each other and against matrix products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from benchmarks.harness.program import Save
from benchmarks.harness.report import Cell, Table
from benchmarks.harness.timing import Conditions, Times, interleave
from benchmarks.harness.workers import worker
from benchmarks.harness.workloads import Workload
from benchmarks.train_step.implementations import OURS, Implementation
from benchmarks.train_step.stepper import Stepper, set_up_products, stepper
from benchmarks.train_step.workloads import BLOCK, FULL_ATTENTION_UP_TO, PAPER_TEXT

WARM_UP = 2
"""Steps before those of `Stepper.warm_up`, in which code is compiled and memory allocated."""
PRODUCT_SIZES = {"cpu": 2048, "cuda": 8192}
COLUMNS = (
    *("workload", "implementation", "precision", "parameters", "ms per step", "spread", "bytes/s", "time / ours"),
    *("FLOP/s of peak, weights", "FLOP/s of peak, with attention", "peak memory MiB"),
)


def measure_speed(
    workloads: Sequence[Workload],
    implementations: Sequence[Implementation],
    conditions: Conditions,
    size: int,
    save: Save,
) -> list[Table]:
    """A table of steps, one row for each workload and implementation, and one of products of matrices of that size.

    save: receives both after each workload, so that a failure at a later one loses nothing.
    """
    steps = Table("Training steps", COLUMNS)
    products = Table("Matrix products", ("workload", "precision", "size", "ms", "spread", "GFLOP/s"))
    for workload in workloads:
        _measure(workload, implementations, conditions, size, steps, products)
        save([steps, products])
    steps.notes += _notes(workloads, implementations, conditions)
    return [steps, products]


def _measure(
    workload: Workload,
    implementations: Sequence[Implementation],
    conditions: Conditions,
    size: int,
    steps: Table,
    products: Table,
) -> None:
    device = conditions.device
    precisions = sorted({implementation.precision(device) for implementation in implementations})
    measure: dict[str, Callable[[], float]] = {}
    steppers: dict[str, Stepper] = {}
    with ExitStack() as stack:
        for precision in precisions:
            name, setup = _products(precision), partial(set_up_products, precision, size, device)
            measure[name] = stack.enter_context(worker(name, setup, conditions.threads)).call
        for implementation in implementations:
            steps_of = stack.enter_context(stepper(implementation, workload, conditions, WARM_UP))
            steppers[implementation.name], measure[implementation.name] = steps_of, steps_of.measure
        times = interleave(measure, conditions.rounds)
    peaks = {precision: 2 * size**3 / times.median(_products(precision)) for precision in precisions}
    for implementation in implementations:
        precision = implementation.precision(device)
        row = _row(workload, implementation.name, precision, steppers[implementation.name], times, peaks[precision])
        steps.rows.append(row)
    for precision, peak in peaks.items():
        name = _products(precision)
        figures = (1e3 * times.median(name), times.spread(name), peak / 1e9)
        products.rows.append((workload.name, precision, size, *figures))


def _products(precision: str) -> str:
    return f"matrix products, {precision}"


def _row(workload: Workload, name: str, precision: str, steps: Stepper, times: Times, peak: float) -> tuple[Cell, ...]:
    rate = workload.batch * workload.window / times.median(name)
    shares = [flops and flops * rate / peak for flops in (steps.info.matrix_flops, steps.info.flops)]
    relative = times.ratio(name, to=OURS) if OURS in times.seconds else None
    timing = (1e3 * times.median(name), times.spread(name), rate, relative)
    return (workload.name, name, precision, steps.info.parameters, *timing, *shares, steps.peak_mebibytes())


def _notes(
    workloads: Sequence[Workload], implementations: Sequence[Implementation], conditions: Conditions
) -> list[str]:
    notes = [
        "Peak memory is all that torch has allocated at the peak of a step."
        if conditions.device.type == "cuda"
        else "Peak memory is how far resident memory rises in a step above its value before the first step: gradients, "
        "moments and activations, without program and weights. Only processes of megabyte-mm and the Transformer keep "
        "freed memory, as fit does."
    ]
    if any(one.compiled for one in implementations) and conditions.device.type == "cpu":
        notes.append("For a compiled model it includes memory that the compiler still holds.")
    if any(one.transformer for one in implementations):
        notes.append(
            "The Transformer has the layers, width and heads of the global model, and reads every byte; above "
            f"{FULL_ATTENTION_UP_TO} bytes in blocks of {BLOCK}."
        )
    if any(one.peer for one in implementations) and any(workload.name == PAPER_TEXT for workload in workloads):
        notes.append(f"In {PAPER_TEXT} only megabyte-mm attends across patches.")
    return notes
