"""Implementations measured in turns, as many together as memory holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from benchmarks.decode.bandwidth import SUMMED, memory_of, set_up_sums
from benchmarks.decode.implementations import Implementation, set_up_decoding
from benchmarks.harness.memory import GIBIBYTE
from benchmarks.harness.timing import Conditions, Times, interleave
from benchmarks.harness.workers import worker

MEMORY = "memory"
"""Name of the worker that only reads memory."""


@dataclass(frozen=True)
class Limits:
    """Memory that a benchmark may use.

    Args:
        memory: Bytes that the implementations of a group may take together.
        summed: Numbers that are summed to measure the speed of memory.
    """

    memory: float = 8 * GIBIBYTE
    summed: int = SUMMED


@dataclass(frozen=True)
class Result:
    """Figures of one implementation.

    Args:
        implementation: The implementation.
        parameters: Number of its model's parameters.
        seconds: For a byte of each row, the median over the rounds.
        spread: Width of the middle half of the rounds, as a share of the median.
        relative: How many times longer it takes than the reference, by the ratios within a round.
        bandwidth: Bytes a second at which memory was read in the same rounds.
    """

    implementation: Implementation
    parameters: int
    seconds: float
    spread: float
    relative: float | None
    bandwidth: float

    @property
    def rate(self) -> float:
        """Bytes a second of all rows."""
        return self.implementation.rows / self.seconds


def measure(
    implementations: Sequence[Implementation], reference: str, conditions: Conditions, limits: Limits
) -> tuple[list[Result], list[Implementation]]:
    """Results of the implementations, whose names differ, and those that do not fit into memory.

    Where not all fit at once, they are measured in groups. The reference is in each group, so that a ratio is of one
    round; its own figures are those of the first group.
    """
    groups, left_out = group(implementations, reference, limits.memory)
    results: dict[str, Result] = {}
    for members in groups:
        for result in _measure_group(members, reference, conditions, limits.summed):
            results.setdefault(result.implementation.name, result)
    return [results[one.name] for one in implementations if one.name in results], left_out


def group(
    implementations: Sequence[Implementation], reference: str, memory: float
) -> tuple[list[list[Implementation]], list[Implementation]]:
    """Groups that fit into memory, each with the reference where there is one, and implementations that fit in none."""
    shared = [one for one in implementations if one.name == reference and memory_of(one) <= memory]
    room = memory - sum(map(memory_of, shared))
    groups: list[list[Implementation]] = []
    used: list[float] = []
    left_out = []
    for one in implementations:
        needed = memory_of(one)
        if one in shared:
            continue
        if needed > room:
            left_out.append(one)
            continue
        for number, before in enumerate(used):
            if before + needed <= room:
                groups[number].append(one)
                used[number] += needed
                break
        else:
            groups.append([*shared, one])
            used.append(needed)
    return groups or [shared] * bool(shared), left_out


def _measure_group(
    members: Sequence[Implementation], reference: str, conditions: Conditions, summed: int
) -> list[Result]:
    threads, device = conditions.threads, conditions.device
    with ExitStack() as stack:
        reader = stack.enter_context(worker(MEMORY, partial(set_up_sums, summed, device), threads))
        decoders = {
            one.name: stack.enter_context(worker(one.name, partial(set_up_decoding, one, device), threads))
            for one in members
        }
        calls: dict[str, Callable[[], float]] = {MEMORY: reader.call}
        calls |= {name: decoder.call for name, decoder in decoders.items()}
        for call in calls.values():
            call()  # to warm up
        times = interleave(calls, conditions.rounds)
    return [_result(one, decoders[one.name].info, times, reference) for one in members]


def _result(implementation: Implementation, parameters: int, times: Times, reference: str) -> Result:
    name = implementation.name
    relative = times.ratio(name, to=reference) if reference in times.seconds else None
    bandwidth = 1 / times.median(MEMORY)
    return Result(implementation, parameters, times.median(name), times.spread(name), relative, bandwidth)
