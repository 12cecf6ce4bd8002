"""Side-by-side timing: candidates take turns, so that whatever else the machine does slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles

import torch

MIN_ROUNDS = 3
TURN_SECONDS = 0.02
"""A turn is at least so long: fast candidates are called several times in it, far above the clock's resolution."""


@dataclass(frozen=True)
class Times:
    """Seconds per call of each candidate, one for each round."""

    seconds: Mapping[str, list[float]]

    def median(self, name: str) -> float:
        """The median over the rounds, in seconds per call."""
        return median(self.seconds[name])

    def spread(self, name: str) -> float:
        """The width of the middle half of the rounds, as a share of the median: above some 0.1, measure again."""
        lower, _, upper = quantiles(self.seconds[name], n=4, method="inclusive")
        return (upper - lower) / self.median(name)

    def ratio(self, name: str, to: str) -> float:
        """How many times longer `name` takes than `to`: the median of the ratios within a round."""
        return median(a / b for a, b in zip(self.seconds[name], self.seconds[to], strict=True))


def side_by_side(candidates: Mapping[str, Callable[[], object]], seconds: float, device: torch.device) -> Times:
    """Call the candidates in turns for about so many seconds in all, at least `MIN_ROUNDS` times each.

    Each is called once or twice before, to warm up.
    """

    def turn(run: Callable[[], object]) -> Callable[[], float]:
        calls = calls_in_a_turn(lambda calls: timed(run, calls, device), TURN_SECONDS)
        return lambda: timed(run, calls, device)

    turns = {name: turn(run) for name, run in candidates.items()}
    start = time.perf_counter()
    return in_turns(turns, lambda rounds: rounds < MIN_ROUNDS or time.perf_counter() - start < seconds)


def in_turns(turns: Mapping[str, Callable[[], float]], more: Callable[[int], bool]) -> Times:
    """Let each take a turn in every round, and tell the seconds of a call, as long as `more(rounds)` says.

    Every other round goes backwards, so that none always comes first.
    """
    found: dict[str, list[float]] = {name: [] for name in turns}
    names, rounds = list(turns), 0
    while more(rounds):
        for name in names:
            found[name].append(turns[name]())
        names.reverse()
        rounds += 1
    return Times(found)


def calls_in_a_turn(seconds_of: Callable[[int], float], least: float) -> int:
    """How many calls take at least so many seconds; seconds_of: what one of so many calls takes."""
    first = seconds_of(1)
    if first > max(1.0, least):
        return 1
    return max(1, round(least / seconds_of(1)))


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
