"""Candidates that draw in turns, as many together as memory holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from benchmarks.decode.bandwidth import memory_of, start_sums
from benchmarks.decode.implementations import Candidate, start_drawing
from benchmarks.harness.timing import Times, in_turns
from benchmarks.harness.workers import worker
from benchmarks.train_step.stepper import Conditions

MEMORY = "memory"
"""What the worker that only reads memory is called."""


@dataclass(frozen=True)
class Found:
    """One candidate's figures.

    Args:
        candidate: It.
        parameters: How many its model has.
        seconds: For a byte of each row, the median over the rounds.
        spread: The width of the middle half of the rounds, as a share of the median.
        relative: How many times longer it takes than the reference, by the ratios within a round.
        bandwidth: Bytes a second that memory was read at meanwhile.
    """

    candidate: Candidate
    parameters: int
    seconds: float
    spread: float
    relative: float | None
    bandwidth: float

    @property
    def rate(self) -> float:
        """Bytes a second of all rows."""
        return self.candidate.rows / self.seconds


def draw_in_turns(
    candidates: Sequence[Candidate], reference: str, conditions: Conditions, summed: int, memory: float
) -> tuple[list[Found], list[Candidate]]:
    """Figures of the candidates, whose names differ, and those that do not fit into so many bytes of memory.

    Where not all fit at once they take turns in groups. The reference is in each of them, so that ratios are always
    those of one round; its own figures are those of the first.
    """
    groups, left_out = grouped(candidates, reference, memory)
    found: dict[str, Found] = {}
    for group in groups:
        for one in _measure(group, reference, conditions, summed):
            found.setdefault(one.candidate.name, one)
    return [found[candidate.name] for candidate in candidates if candidate.name in found], left_out


def grouped(
    candidates: Sequence[Candidate], reference: str, memory: float
) -> tuple[list[list[Candidate]], list[Candidate]]:
    """Groups that fit into memory, each with the reference where there is one, and candidates that fit in none."""
    shared = [one for one in candidates if one.name == reference and memory_of(one) <= memory]
    room = memory - sum(map(memory_of, shared))
    groups: list[list[Candidate]] = []
    taken: list[float] = []
    left_out = []
    for one in candidates:
        needed = memory_of(one)
        if one in shared:
            continue
        if needed > room:
            left_out.append(one)
            continue
        for number, before in enumerate(taken):
            if before + needed <= room:
                groups[number].append(one)
                taken[number] += needed
                break
        else:
            groups.append([*shared, one])
            taken.append(needed)
    return groups or [shared] * bool(shared), left_out


def _measure(candidates: Sequence[Candidate], reference: str, conditions: Conditions, summed: int) -> list[Found]:
    threads, device = conditions.threads, conditions.device
    with ExitStack() as stack:
        reader = stack.enter_context(worker(MEMORY, partial(start_sums, summed, device), threads))
        drawing = {
            one.name: stack.enter_context(worker(one.name, partial(start_drawing, one, device), threads))
            for one in candidates
        }
        turns: dict[str, Callable[[], float]] = {
            MEMORY: partial(reader.ask, None),
            **{name: partial(found.ask, None) for name, found in drawing.items()},
        }
        for turn in turns.values():
            turn()  # to warm up
        times = in_turns(turns, conditions.more)
    about = {name: found.about for name, found in drawing.items()}
    return [_found(one, about[one.name], times, reference) for one in candidates]


def _found(candidate: Candidate, parameters: int, times: Times, reference: str) -> Found:
    name = candidate.name
    relative = times.ratio(name, to=reference) if reference in times.seconds else None
    return Found(
        candidate, parameters, times.median(name), times.spread(name), relative, bandwidth=1 / times.median(MEMORY)
    )
