"""Interleaved timing: all candidates are measured in every round, so that a busy machine slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles

import torch


@dataclass(frozen=True)
class Conditions:
    """How a benchmark measures.

    Args:
        device: Where everything is computed.
        threads: CPU threads of each worker.
        rounds: Measurements of each candidate.
    """

    device: torch.device
    threads: int
    rounds: int


@dataclass(frozen=True)
class Times:
    """Seconds per call of each candidate, one for each round."""

    seconds: Mapping[str, list[float]]

    def median(self, name: str) -> float:
        """Median over the rounds, in seconds per call."""
        return median(self.seconds[name])

    def spread(self, name: str) -> float:
        """Width of the middle half of the rounds as a share of the median: above about 0.1, measure again."""
        lower, _, upper = quantiles(self.seconds[name], n=4, method="inclusive")
        return (upper - lower) / self.median(name)

    def ratio(self, name: str, to: str) -> float:
        """How many times longer `name` takes than `to`: the median of the ratios within a round."""
        return median(a / b for a, b in zip(self.seconds[name], self.seconds[to], strict=True))


def interleave(measure: Mapping[str, Callable[[], float]], rounds: int) -> Times:
    """Measure each candidate once in every round: a b c, c b a, a b c, ...

    measure: returns the seconds per call of its candidate. Every other round runs backwards, so that no candidate
    always comes first.
    """
    seconds: dict[str, list[float]] = {name: [] for name in measure}
    names = list(measure)
    for _ in range(rounds):
        for name in names:
            seconds[name].append(measure[name]())
        names.reverse()
    return Times(seconds)


def calls_lasting(seconds: float, per_call: Callable[[int], float]) -> int:
    """Number of calls that together take at least so many seconds.

    per_call: makes the given number of calls and returns the seconds of one.
    """
    first = per_call(1)  # a warm-up too, unless it is long
    if first > max(1.0, seconds):
        return 1
    return max(1, round(seconds / per_call(1)))


def timed(run: Callable[[], object], calls: int, device: torch.device) -> float:
    """Seconds per call, with what the calls left running on a GPU."""
    _synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        run()
    _synchronize(device)
    return (time.perf_counter() - start) / calls


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
