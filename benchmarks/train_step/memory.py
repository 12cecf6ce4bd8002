"""Part `memory`: what each further byte of a long sequence costs in memory, where activations are computed anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import torch

from benchmarks.harness.memory import PeakMemory
from benchmarks.harness.report import Cell, Table
from benchmarks.harness.timing import timed
from benchmarks.harness.training import fit_loss
from benchmarks.harness.workers import worker
from benchmarks.harness.workloads import Workload, workloads
from benchmarks.train_step.implementations import Turn, fit_precision
from benchmarks.train_step.shapes import paper_config
from benchmarks.train_step.stepper import MEBIBYTE, Conditions
from megabyte_mm.evaluation.memory import FULL, HALF, kept_by
from megabyte_mm.models import Megabyte, MegabyteConfig, StepOptions
from megabyte_mm.models.megabyte.chunked_loss import patches_at_once
from megabyte_mm.training.trainer import keep_freed_memory

BUDGET = 2.0**28
"""Bytes for activations: little, so that all lengths are read in chunks of the same size."""
ALL_KEPT = 2.0**60
"""More than any activations take."""
PATCHES = (64, 128, 256)
WARM_UP_PATCHES = 2
COLUMNS = (
    *("length", "patches", "patches at once", "activations", "seconds", "rise MiB", "expected MiB"),
    *("rise per byte", "expected per byte"),
)


@dataclass(frozen=True)
class Case:
    """A length and the bytes that its activations may take."""

    length: int
    budget: float


@dataclass(frozen=True)
class Expected:
    """How a model of the length is read, and the bytes that are then kept."""

    patches_at_once: int
    bytes: float


def measure_memory(conditions: Conditions, toy: bool) -> list[Table]:
    """One row for each length, and one for the shortest where nothing is computed anew; each in its own process."""
    config = workloads(toy=True)[0].config if toy else paper_config("image640_megabyte")
    assert config.patch_size is not None
    lengths = [config.patch_size * patches for patches in PATCHES]
    budget = budget_for(config, lengths[0])
    cases = [*(Case(length, budget) for length in lengths), Case(lengths[0], ALL_KEPT)]
    found = [_measured(replace(config, max_len=case.length), case, conditions) for case in cases]
    table = Table("Memory of forward and backward", COLUMNS)
    slopes: list[tuple[Cell, Cell]] = [(None, None)]
    slopes += [_slopes(one, other) for one, other in pairwise(zip(lengths, found, strict=False))]
    for case, (expected, turn), slope in zip(cases, found, [*slopes, (None, None)], strict=True):
        table.rows.append(_row(case, config.patch_size, expected, turn, slope))
    table.notes += _notes(budget, conditions)
    return [table]


def budget_for(config: MegabyteConfig, length: int) -> float:
    """`BUDGET`, halved until the global model of that length is computed anew."""
    model = _meta(replace(config, max_len=length))
    budget: float = BUDGET
    while not model.recomputes_global(1, budget):
        budget /= 2
    return budget


def start_gradients(shape: Workload, budget: float, device: torch.device) -> tuple[Expected, Callable[[None], Turn]]:
    """For a worker: a function that runs forward and backward over one window; gradients are there before."""
    if device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(0)
    model = Megabyte(shape.config).to(device).train()
    loss = fit_loss(model, StepOptions(budget))

    def differentiate(length: int) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=fit_precision(device) == "bfloat16"):
            nats = loss(shape.ids(1, length, device))
        nats.backward()  # type: ignore[no-untyped-call]

    for _ in range(2):
        differentiate(WARM_UP_PATCHES * shape.patch_size)
    memory = PeakMemory(device)

    def measure(_: None) -> Turn:
        memory.begin()
        return Turn(timed(partial(differentiate, shape.window), 1, device), memory.rise())

    return _expected(model, budget, device), measure


def _expected(model: Megabyte, budget: float, device: torch.device) -> Expected:
    """What costs/memory.py says is kept, without copies of the weights: these are there since the first pass."""
    kept = kept_by(model, 1, budget)
    inner = HALF if fit_precision(device) == "bfloat16" else FULL
    patches = min(patches_at_once(model, 1, budget), model.max_patches)
    return Expected(patches, FULL * kept.stream + inner * kept.inner + kept.small)


def _measured(config: MegabyteConfig, case: Case, conditions: Conditions) -> tuple[Expected, Turn]:
    shape = Workload(f"{case.length} bytes", config, batch=1)
    start = partial(start_gradients, shape, case.budget, conditions.device)
    with worker(f"memory, {shape.name}", start, conditions.threads) as found:
        return found.about, found.ask(None)


def _slopes(one: tuple[int, tuple[Expected, Turn]], other: tuple[int, tuple[Expected, Turn]]) -> tuple[Cell, Cell]:
    """Bytes of memory for each byte more, measured and expected."""
    (short, (short_expected, short_turn)), (long, (long_expected, long_turn)) = one, other
    expected = (long_expected.bytes - short_expected.bytes) / (long - short)
    if long_turn.peak is None or short_turn.peak is None:
        return None, expected
    return (long_turn.peak - short_turn.peak) / (long - short), expected


def _row(case: Case, patch_size: int, expected: Expected, turn: Turn, slope: tuple[Cell, Cell]) -> tuple[Cell, ...]:
    kind = "all kept" if case.budget == ALL_KEPT else "anew"
    rise = None if turn.peak is None else turn.peak / MEBIBYTE
    sizes = (case.length, case.length // patch_size, expected.patches_at_once, kind)
    return (*sizes, turn.seconds, rise, expected.bytes / MEBIBYTE, *slope)


def _notes(budget: float, conditions: Conditions) -> list[str]:
    lowered = "" if budget == BUDGET else ", lowered until the global model is computed anew at the shortest length"
    least = "A chunk has at least so many patches as attention across patches asks for."
    notes = [
        f"{fit_precision(conditions.device)}, one window, activations in {budget / MEBIBYTE:.3g} MiB{lowered}. {least}",
        "Per byte: since the row above. What lengths have in common, such as a chunk of the local model, drops out.",
    ]
    if conditions.device.type == "cpu":
        notes.append(
            "The rise is above what a pass over a short sequence has left, which includes gradients and room for the "
            "copies of the weights in bfloat16."
        )
    return notes


def _meta(config: MegabyteConfig) -> Megabyte:
    """A model without weights, for its arithmetic."""
    with torch.device("meta"):
        return Megabyte(config)
