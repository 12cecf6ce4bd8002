"""Part `speed`: bytes a second by batch and context, of our backends, Transformers and other packages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.decode.bandwidth import bytes_for_a_byte, memory_of
from benchmarks.decode.implementations import Candidate, last_stretch, on_device
from benchmarks.decode.measure import Found, draw_in_turns
from benchmarks.decode.models import equal_compute, equal_weights, sizes, small
from benchmarks.harness.report import Cell, Table
from benchmarks.peers import PEERS
from benchmarks.train_step.stepper import Conditions
from megabyte_mm.models import Execution, MegabyteConfig, ModelConfig

TITLE = "Bytes drawn"
COLUMNS = (
    *("batch", "context", "implementation", "sizes", "parameters", "bytes/s", "spread", "time / ours"),
    *("bytes read for a byte", "share of memory's limit"),
)
OURS = "megabyte-mm"
COMPILED = f"{OURS}, compiled"
EXECUTIONS = {
    OURS: Execution("native"),
    f"{OURS}, bfloat16": Execution("native", "bfloat16"),
    f"{OURS}, int8": Execution("native", "int8"),
    f"{OURS}, eager": Execution("eager"),
    COMPILED: Execution("compile"),
}
"""MEGABYTE's candidates; on a GPU, where nothing is native, the first three are compiled as well."""
TRANSFORMERS: dict[str, Callable[[MegabyteConfig], ModelConfig]] = {
    "Transformer, equal compute": equal_compute,
    "Transformer, equal weights": equal_weights,
}
PACKAGES = {peer.package: name for name, peer in PEERS.items()}
NAMES = (*EXECUTIONS, *TRANSFORMERS, *PACKAGES)
PEERS_UP_TO = 8192
GIBIBYTE = 2**30


@dataclass(frozen=True)
class Plan:
    """What `speed` measures.

    Args:
        batches: Rows drawn together.
        contexts: Bytes in sight, each with models of such a window.
        only: The implementations, of `NAMES`.
        stretch: Bytes that are drawn in a turn.
        memory: Bytes that the candidates may take together.
        summed: Numbers that are summed to see how fast memory is.
        peers_everywhere: Whether other packages draw at long contexts too.
        toy: Whether models are tiny.
    """

    batches: Sequence[int]
    contexts: Sequence[int]
    only: Sequence[str]
    stretch: int
    memory: float
    summed: int
    peers_everywhere: bool = False
    toy: bool = False


def time_speed(plan: Plan, conditions: Conditions, keep: Callable[[list[Table]], None] = lambda _: None) -> list[Table]:
    """A row for each batch, context and implementation. keep: receives the table after each batch and context."""
    table = Table(TITLE, COLUMNS)
    for context in plan.contexts:
        for batch in plan.batches:
            found, left_out = draw_in_turns(
                candidates_at(plan, batch, context, conditions.device.type),
                OURS,
                conditions,
                plan.summed,
                plan.memory,
            )
            table.rows += [_row(one, context) for one in found]
            table.notes += [
                f"{one.name} at batch {batch}, context {context} is left out: it takes "
                f"{memory_of(one) / GIBIBYTE:.1f} GiB, and with the others --memory is {plan.memory / GIBIBYTE:.3g}."
                for one in left_out
            ]
            keep([table])
    table.notes += _notes(plan)
    return [table]


def candidates_at(plan: Plan, batch: int, context: int, device: str = "cpu") -> list[Candidate]:
    """Those that draw at that batch and context."""
    config = small(context, plan.toy)
    stretches = last_stretch(config, plan.stretch)
    found = [
        Candidate(name, config, batch, stretches, on_device(device, execution))
        for name, execution in EXECUTIONS.items()
        # Nothing is native on a GPU: there the first is compiled already.
        if name in plan.only and (device == "cpu" or name != COMPILED)
    ]
    found += [
        Candidate(name, equal(config), batch, stretches, on_device(device, Execution("native")))
        for name, equal in TRANSFORMERS.items()
        if name in plan.only
    ]
    if batch == 1 and (context <= PEERS_UP_TO or plan.peers_everywhere):
        found += [
            Candidate(name, config, batch, last_stretch(config, 1), peer=peer)
            for name, peer in PACKAGES.items()
            if name in plan.only and PEERS[peer].installed()
        ]
    return found


def _row(found: Found, context: int) -> tuple[Cell, ...]:
    one = found.candidate
    read = None if one.peer else bytes_for_a_byte(one)
    share = None if read is None else found.rate * read / found.bandwidth
    timing = (found.rate, found.spread, found.relative)
    return (one.rows, context, one.name, sizes(one.config), found.parameters, *timing, read, share)


def _notes(plan: Plan) -> list[str]:
    notes = [
        (
            f"A turn draws {plan.stretch} bytes of each row, which end where the window does, sampling included; what "
            "is before them is not read in earnest, but caches hold as much."
        ),
        (
            "Memory's limit: the bytes that must be read for a byte, at the rate at which one tensor of "
            f"{plan.summed * 4 / 1e6:.3g} MB was summed in the same rounds. Weights that fit into the processor's "
            "caches can go beyond."
        ),
    ]
    if set(TRANSFORMERS) & set(plan.only):
        notes.append(
            "Equal compute: as many operations of a training step for a byte at this context; equal weights: as many "
            "weights multiplied with; both within a twentieth where there is such a width and depth."
        )
    peers = [name for name in PACKAGES if name in plan.only]
    notes += [f"{name} is not installed, so its rows are left out." for name in peers if not _installed(name)]
    if any(map(_installed, peers)):
        notes.append(
            "Other packages draw one row, the window's last byte, by their own generate: it reads all before it again "
            f"for each byte. Above {PEERS_UP_TO} bytes they are left out unless --peers_everywhere is given."
        )
    return notes


def _installed(name: str) -> bool:
    return PEERS[PACKAGES[name]].installed() is not None
