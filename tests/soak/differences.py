"""Where two runs differ: in their checkpoints, in what they logged, in the samples that they drew."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

CHECKPOINTS = ("last.ckpt", "best.ckpt")
OF_THE_CLOCK = ("train/bytes_per_s", "train/flops_per_s")
"""Metrics that no two runs share."""


def differences(whole: Path, other: Path) -> list[str]:
    """One line for each difference between two run folders, the first of which nothing disturbed.

    What was logged counts by step over all of a run's logs: each figure of `whole` must be there, and be the same every
    time that it is there. So must be each sample that `other` drew.
    """
    found = []
    for name in CHECKPOINTS:
        ours, theirs = (torch.load(root / name, weights_only=True) for root in (whole, other))
        found += [f"{name}: {line}" for line in _unequal(ours, theirs)]
    return found + _unlike_figures(logged(whole), logged(other)) + _unlike_samples(whole, other)


def _unequal(ours: Any, theirs: Any, at: str = "") -> Iterator[str]:
    """The places where two nested values differ in any bit."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in {**ours, **theirs}:
            yield from _unequal(ours.get(key), theirs.get(key), f"{at}/{key}")
    elif isinstance(ours, list | tuple) and isinstance(theirs, list | tuple) and len(ours) == len(theirs):
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from _unequal(*pair, f"{at}/{number}")
    elif isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor):
        if ours.dtype != theirs.dtype or not torch.equal(ours, theirs):
            yield at
    elif ours != theirs:
        yield f"{at}: {ours!r} and {theirs!r}"


Figures = dict[tuple[int, str], set[str]]


def logged(root: Path) -> Figures:
    """Each value that any log of a run has for (step, metric), as it is written there."""
    figures: Figures = defaultdict(set)
    for path in sorted(root.glob("logs/version_*/metrics.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                for name, value in row.items():
                    if value and name not in ("step", "epoch", *OF_THE_CLOCK):
                        figures[int(row["step"]), name].add(value)
    return figures


def _unlike_figures(whole: Figures, other: Figures) -> list[str]:
    return [
        f"{name} of step {step}: {' and '.join(sorted(values))} and {' and '.join(sorted(other[step, name])) or 'none'}"
        for (step, name), values in sorted(whole.items())
        if other[step, name] != values
    ]


def _unlike_samples(whole: Path, other: Path) -> list[str]:
    drawn = {path.relative_to(path.parents[1]): path.read_bytes() for path in whole.glob("logs/*/samples/*/*")}
    return [
        f"{path.relative_to(other)}: another sample than in the undisturbed run"
        for path in sorted(other.glob("logs/*/samples/*/*"))
        if path.read_bytes() != drawn[path.relative_to(path.parents[1])]
    ]
