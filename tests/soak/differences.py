"""Differences between two runs: in their checkpoints, logged figures and samples."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

CHECKPOINTS = ("last.ckpt", "best.ckpt")
TIMINGS = ("train/bytes_per_s", "train/flops_per_s")
"""Metrics that differ between any two runs."""

Figures = dict[tuple[int, str], set[str]]
"""Logged values by step and metric."""


def differences(undisturbed: Path, killed: Path) -> list[str]:
    """One line for each difference between two run folders.

    Logged figures count by step over all of a run's logs: `killed` must have each figure of `undisturbed`, with the
    same value wherever it is logged. Each sample of `killed` must equal that of `undisturbed`.
    """
    lines = []
    for name in CHECKPOINTS:
        expected, actual = (torch.load(root / name, weights_only=True) for root in (undisturbed, killed))
        lines += [f"{name}: {line}" for line in _unequal(expected, actual)]
    return lines + _unequal_figures(logged(undisturbed), logged(killed)) + _unequal_samples(undisturbed, killed)


def _unequal(expected: Any, actual: Any, path: str = "") -> Iterator[str]:
    """Paths at which two nested values differ in any bit."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key in {**expected, **actual}:
            yield from _unequal(expected.get(key), actual.get(key), f"{path}/{key}")
    elif isinstance(expected, list | tuple) and isinstance(actual, list | tuple) and len(expected) == len(actual):
        for number, pair in enumerate(zip(expected, actual, strict=True)):
            yield from _unequal(*pair, f"{path}/{number}")
    elif isinstance(expected, torch.Tensor) and isinstance(actual, torch.Tensor):
        if expected.dtype != actual.dtype or not torch.equal(expected, actual):
            yield path
    elif expected != actual:
        yield f"{path}: {expected!r} and {actual!r}"


def logged(root: Path) -> Figures:
    """All values that any log of a run has for a step and metric, as they are written there."""
    figures: Figures = defaultdict(set)
    for path in sorted(root.glob("logs/version_*/metrics.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                for name, value in row.items():
                    if value and name not in ("step", "epoch", *TIMINGS):
                        figures[int(row["step"]), name].add(value)
    return figures


def _unequal_figures(expected: Figures, actual: Figures) -> list[str]:
    return [
        f"{name} of step {step}: {_listed(values)} undisturbed, {_listed(actual[step, name])} when killed"
        for (step, name), values in sorted(expected.items())
        if actual[step, name] != values
    ]


def _listed(values: set[str]) -> str:
    return " and ".join(sorted(values)) or "nothing"


def _unequal_samples(undisturbed: Path, killed: Path) -> list[str]:
    pattern = "logs/*/samples/*/*"
    expected = {path.relative_to(path.parents[1]): path.read_bytes() for path in undisturbed.glob(pattern)}
    return [
        f"{path.relative_to(killed)}: another sample than in the undisturbed run"
        for path in sorted(killed.glob(pattern))
        if path.read_bytes() != expected[path.relative_to(path.parents[1])]
    ]
