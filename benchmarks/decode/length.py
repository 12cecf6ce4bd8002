"""Part `length`: how the time of a byte grows with what is before it."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.decode.implementations import NATIVE, Candidate, last_stretch, on_device
from benchmarks.decode.measure import draw_in_turns
from benchmarks.decode.models import small
from benchmarks.harness.report import Table
from benchmarks.train_step.stepper import Conditions

TITLE = "Time of a byte by context"


def time_contexts(
    contexts: Sequence[int], stretch: int, conditions: Conditions, summed: int, memory: float, toy: bool
) -> list[Table]:
    """A row for each context, rising, of MEGABYTE with rotary positions and one row."""
    execution = on_device(conditions.device.type, NATIVE)
    configs = {context: small(context, toy, rotary=True) for context in contexts}
    candidates = [
        Candidate(str(context), config, 1, last_stretch(config, stretch), execution)
        for context, config in configs.items()
    ]
    shortest = candidates[0].name
    found, left_out = draw_in_turns(candidates, shortest, conditions, summed, memory)
    table = Table(TITLE, ("context", "µs per byte", "spread", "bytes/s", f"time / that of {shortest}"))
    for one in found:
        timing = (1e6 * one.seconds, one.spread, one.rate, one.relative)
        table.rows.append((int(one.candidate.name), *timing))
    table.notes.append(f"One row, float32, rotary positions; {stretch} bytes that end where the context does.")
    table.notes += [f"{one.name} is left out: it does not fit into --memory." for one in left_out]
    return [table]
