"""Part `memory`: memory that each further byte of a long sequence takes, where activations are recomputed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import torch

from benchmarks.harness.memory import MEBIBYTE, PeakMemory
from benchmarks.harness.report import Cell, Table
from benchmarks.harness.timing import Conditions, timed
from benchmarks.harness.training import fit_loss, fit_precision
from benchmarks.harness.workers import worker
from benchmarks.harness.workloads import Workload, paper_config, toy
from benchmarks.train_step.implementations import Measurement
from megabyte_mm.evaluation.memory import FULL, HALF, kept_by
from megabyte_mm.models import Megabyte, MegabyteConfig, StepOptions
from megabyte_mm.models.megabyte.chunked_loss import patches_at_once
from megabyte_mm.training.trainer import keep_freed_memory

BUDGET = 2.0**28
"""Bytes for activations: few, so that all lengths are read in chunks of the same size."""
UNLIMITED = 2.0**60
"""More bytes than any activations take."""
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
    """Patches that the local model reads at once, and the bytes of activations that are then kept."""

    patches_at_once: int
    bytes: float


def measure_memory(conditions: Conditions, tiny: bool) -> list[Table]:
    """One row for each length, and one for the shortest without recomputation; each in its own process."""
    config = toy().config if tiny else paper_config("image640_megabyte")
    assert config.patch_size is not None
    lengths = [config.patch_size * patches for patches in PATCHES]
    budget = budget_for(config, lengths[0])
    cases = [*(Case(length, budget) for length in lengths), Case(lengths[0], UNLIMITED)]
    results = [_measure(replace(config, max_len=case.length), case, conditions) for case in cases]
    table = Table("Memory of forward and backward", COLUMNS)
    slopes: list[tuple[Cell, Cell]] = [(None, None)]
    slopes += [_slopes(one, other) for one, other in pairwise(zip(lengths, results, strict=False))]
    for case, (expected, measured), slope in zip(cases, results, [*slopes, (None, None)], strict=True):
        table.rows.append(_row(case, config.patch_size, expected, measured, slope))
    table.notes += _notes(budget, conditions)
    return [table]


def budget_for(config: MegabyteConfig, length: int) -> float:
    """`BUDGET`, halved until the global model of that length is recomputed."""
    with torch.device("meta"):
        model = Megabyte(replace(config, max_len=length))
    budget = BUDGET
    while not model.recomputes_global(1, budget):
        budget /= 2
    return budget


def set_up_gradients(
    workload: Workload, budget: float, device: torch.device
) -> tuple[Expected, Callable[[None], Measurement]]:
    """For a worker: a function that runs forward and backward over one window; gradients are allocated before."""
    if device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(0)
    model = Megabyte(workload.config).to(device).train()
    loss = fit_loss(model, StepOptions(budget))

    def differentiate(length: int) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=fit_precision(device) == "bfloat16"):
            nats = loss(workload.ids(1, length, device))
        nats.backward()  # type: ignore[no-untyped-call]

    for _ in range(2):
        differentiate(WARM_UP_PATCHES * workload.patch_size)
    memory = PeakMemory(device)

    def measure(_: None) -> Measurement:
        memory.reset()
        return Measurement(timed(partial(differentiate, workload.window), 1, device), memory.rise())

    return _expected(model, budget, device), measure


def _expected(model: Megabyte, budget: float, device: torch.device) -> Expected:
    """As estimated by megabyte_mm/evaluation/memory.py, without copies of the weights, which the warm-up has made."""
    kept = kept_by(model, 1, budget)
    inner = HALF if fit_precision(device) == "bfloat16" else FULL
    patches = min(patches_at_once(model, 1, budget), model.max_patches)
    return Expected(patches, FULL * kept.stream + inner * kept.inner + kept.small)


def _measure(config: MegabyteConfig, case: Case, conditions: Conditions) -> tuple[Expected, Measurement]:
    workload = Workload(f"{case.length} bytes", config, batch=1)
    setup = partial(set_up_gradients, workload, case.budget, conditions.device)
    with worker(f"memory, {workload.name}", setup, conditions.threads) as process:
        return process.info, process.call()


Result = tuple[int, tuple[Expected, Measurement]]


def _slopes(shorter: Result, longer: Result) -> tuple[Cell, Cell]:
    """Bytes of memory for each further byte of the sequence, measured and expected."""
    (short, (short_expected, short_measured)), (long, (long_expected, long_measured)) = shorter, longer
    expected = (long_expected.bytes - short_expected.bytes) / (long - short)
    if long_measured.peak is None or short_measured.peak is None:
        return None, expected
    return (long_measured.peak - short_measured.peak) / (long - short), expected


def _row(
    case: Case, patch_size: int, expected: Expected, measured: Measurement, slope: tuple[Cell, Cell]
) -> tuple[Cell, ...]:
    activations = "kept" if case.budget == UNLIMITED else "recomputed"
    rise = None if measured.peak is None else measured.peak / MEBIBYTE
    sizes = (case.length, case.length // patch_size, expected.patches_at_once, activations)
    return (*sizes, measured.seconds, rise, expected.bytes / MEBIBYTE, *slope)


def _notes(budget: float, conditions: Conditions) -> list[str]:
    lowered = "" if budget == BUDGET else ", lowered until the global model is recomputed at the shortest length"
    least = "A chunk has at least as many patches as attention across patches needs."
    notes = [
        f"{fit_precision(conditions.device)}, one window, activations in {budget / MEBIBYTE:.3g} MiB{lowered}. {least}",
        "Per byte: since the row above. What all lengths share, such as a chunk of the local model, cancels out.",
    ]
    if conditions.device.type == "cpu":
        notes.append(
            "The rise is above the memory after a pass over a short sequence, which includes gradients and room for "
            "the copies of the weights in bfloat16."
        )
    return notes
