"""Part `speed`: steps of all implementations at equal sizes, against each other and against matrix products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from benchmarks.harness.report import Cell, Table
from benchmarks.harness.timing import Times, in_turns
from benchmarks.harness.workers import worker
from benchmarks.harness.workloads import Workload
from benchmarks.train_step.implementations import OURS, Candidate
from benchmarks.train_step.shapes import CONTEXT, LONGEST_IN_ONE, PAPER_TEXT
from benchmarks.train_step.stepper import Conditions, Stepper, start_products, stepper

WARM_UP = 2
"""Steps before those of `Stepper.warm_up`, in which code is compiled and memory found."""
PRODUCT_SIZES = {"cpu": 2048, "cuda": 8192}
COLUMNS = (
    *("shape", "implementation", "precision", "parameters", "ms per step", "spread", "bytes/s", "time / ours"),
    *("FLOP/s of peak, weights", "FLOP/s of peak, with attention", "peak memory MiB"),
)


def time_steps(
    shapes: Sequence[Workload],
    candidates: Sequence[Candidate],
    conditions: Conditions,
    size: int,
    keep: Callable[[list[Table]], None] = lambda _: None,
) -> list[Table]:
    """A table of steps, one row for each shape and candidate, and one of products of matrices of that size.

    keep: receives both after each shape, so that a failure at a later one loses nothing.
    """
    steps = Table("Training steps", COLUMNS)
    products = Table("Matrix products", ("shape", "precision", "size", "ms", "spread", "GFLOP/s"))
    for shape in shapes:
        _time_shape(shape, candidates, conditions, size, steps, products)
        keep([steps, products])
    steps.notes += _notes(shapes, candidates, conditions)
    return [steps, products]


def _time_shape(
    shape: Workload,
    candidates: Sequence[Candidate],
    conditions: Conditions,
    size: int,
    steps: Table,
    products: Table,
) -> None:
    device = conditions.device
    precisions = sorted({candidate.precision(device) for candidate in candidates})
    with ExitStack() as stack:
        multiplying = {
            _products(precision): stack.enter_context(
                worker(_products(precision), partial(start_products, precision, size, device), conditions.threads)
            )
            for precision in precisions
        }
        steppers = {
            candidate.name: stack.enter_context(stepper(candidate, shape, conditions, WARM_UP))
            for candidate in candidates
        }
        turns: dict[str, Callable[[], float]] = {
            **{name: partial(found.ask, None) for name, found in multiplying.items()},
            **{name: found.turn for name, found in steppers.items()},
        }
        times = in_turns(turns, conditions.more)
    peaks = {precision: 2 * size**3 / times.median(_products(precision)) for precision in precisions}
    for candidate in candidates:
        precision = candidate.precision(device)
        steps.rows.append(_row(shape, candidate.name, precision, steppers[candidate.name], times, peaks[precision]))
    for precision, peak in peaks.items():
        name = _products(precision)
        figures = (1e3 * times.median(name), times.spread(name), peak / 1e9)
        products.rows.append((shape.name, precision, size, *figures))


def _products(precision: str) -> str:
    return f"matrix products, {precision}"


def _row(shape: Workload, name: str, precision: str, found: Stepper, times: Times, peak: float) -> tuple[Cell, ...]:
    rate = shape.batch * shape.window / times.median(name)
    shares = [flops and flops * rate / peak for flops in (found.about.matrix_flops, found.about.flops)]
    relative = times.ratio(name, to=OURS) if OURS in times.seconds else None
    timing = (1e3 * times.median(name), times.spread(name), rate, relative)
    return (shape.name, name, precision, found.about.parameters, *timing, *shares, found.peak_mebibytes())


def _notes(shapes: Sequence[Workload], candidates: Sequence[Candidate], conditions: Conditions) -> list[str]:
    notes = [
        "Peak memory is all that torch has allocated at the peak of a step."
        if conditions.device.type == "cuda"
        else "Peak memory is how far resident memory rises in a step above what it was before the first: gradients, "
        "moments and activations, without program and weights. Only processes of megabyte-mm and the Transformer keep "
        "freed memory, as fit does."
    ]
    if any(candidate.compiled for candidate in candidates) and conditions.device.type == "cpu":
        notes.append("Of a compiled model it includes what the compiler has left.")
    if any(candidate.baseline for candidate in candidates):
        notes.append(
            "The Transformer has the layers, width and heads of the global model, and reads every byte; above "
            f"{LONGEST_IN_ONE} bytes in blocks of {CONTEXT}."
        )
    if any(candidate.peer for candidate in candidates) and any(shape.name == PAPER_TEXT for shape in shapes):
        notes.append(f"In {PAPER_TEXT} only megabyte-mm attends across patches.")
    return notes
