"""Part `paper`: long sequences by MEGABYTE, and by a Transformer that sees all of them or their last bytes alone.

The paper draws 8192 bytes by a MEGABYTE whose global model has far more parameters than the Transformer (section 6.4).
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.decode.implementations import Candidate, Stretches, on_device
from benchmarks.decode.measure import Found, draw_in_turns
from benchmarks.decode.models import paper_pair, sizes, unallocated, with_window
from benchmarks.harness.report import Cell, Table
from benchmarks.train_step.stepper import Conditions
from megabyte_mm.models import Execution, ModelConfig, Precision

TITLE = "Long sequences"
COLUMNS = (
    *("implementation", "sizes", "precision", "parameters", "training FLOP/byte", "bytes/s", "spread"),
    *("time / MEGABYTE", "seconds for all"),
)
MEGABYTE = "MEGABYTE"
PRECISIONS: tuple[Precision | None, ...] = (None, "bfloat16", "int8")


@dataclass(frozen=True)
class Plan:
    """What `paper` measures.

    Args:
        length: Bytes of a sequence.
        window: How many the limited Transformer sees.
        places: How many stretches, evenly spread over the sequence, stand for it.
        stretch: Bytes of each.
        whole: Whether sequences are really drawn instead, from nothing to their end.
        memory: Bytes that the candidates may take together.
        summed: Numbers that are summed to see how fast memory is.
        toy: Whether models are tiny.
    """

    length: int
    window: int
    places: int
    stretch: int
    whole: bool
    memory: float
    summed: int
    toy: bool = False


def time_paper(plan: Plan, conditions: Conditions) -> list[Table]:
    """A row for each of the three, in each precision."""
    table = Table(TITLE, COLUMNS)
    for precision in PRECISIONS:
        candidates = trio(plan, on_device(conditions.device.type, Execution("native", precision)))
        found, left_out = draw_in_turns(candidates, MEGABYTE, conditions, plan.summed, plan.memory)
        table.rows += [_row(one, plan) for one in found]
        table.notes += [f"{one.name} is left out, {precision or 'float32'}: too large." for one in left_out]
    way = (
        "Whole sequences are drawn, from nothing."
        if plan.whole
        else f"{plan.places} stretches of {plan.stretch} bytes stand for a sequence, evenly spread over it; of the "
        f"limited Transformer, {plan.window // 2} bytes, in which its window slides once."
    )
    table.notes.append(f"One row of {plan.length} bytes. {way}")
    return [table]


def trio(plan: Plan, execution: Execution) -> list[Candidate]:
    """MEGABYTE, the Transformer that sees all, and the one that sees the last bytes alone."""
    megabyte, transformer = paper_pair(plan.length, plan.toy)
    size = megabyte.patch_size or 1
    spread = Stretches((0,), plan.length, whole=True) if plan.whole else spread_over(plan, size)
    sliding = spread if plan.whole else Stretches((plan.window // 2,), plan.window - plan.window // 2)
    chosen: list[tuple[str, ModelConfig, Stretches]] = [
        (MEGABYTE, megabyte, spread),
        ("Transformer", transformer, spread),
        (f"Transformer, last {plan.window}", with_window(transformer, plan.window), sliding),
    ]
    return [Candidate(name, config, 1, stretches, execution) for name, config, stretches in chosen]


def spread_over(plan: Plan, size: int) -> Stretches:
    """Stretches in the middle of equal parts of the sequence, each from where a patch of that size begins."""
    part = plan.length / plan.places
    places = [int((number + 0.5) * part - plan.stretch / 2) // size * size for number in range(plan.places)]
    return Stretches(tuple(max(place, 0) for place in places), plan.stretch)


def _row(found: Found, plan: Plan) -> tuple[Cell, ...]:
    one = found.candidate
    about = (sizes(one.config), one.execution.precision or "float32", found.parameters)
    flops = unallocated(one.config).training_flops_per_byte()
    return (one.name, *about, flops, found.rate, found.spread, found.relative, plan.length * found.seconds)
