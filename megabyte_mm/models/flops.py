"""How often the parts of a model are multiplied with: what its operations and its memory are told from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from megabyte_mm.models.layers import Stack


@dataclass(frozen=True)
class Work:
    """Products over a window of one row.

    Args:
        weights: Of the matrices that are multiplied with.
        positions: How many vectors they are multiplied with.
        width: Of attention: the model width times the layers; 0 for none.
        scores: Pairs of a query and a key in each layer and head.
    """

    weights: int
    positions: float
    width: int = 0
    scores: float = 0.0

    @property
    def flops(self) -> float:
        """Two operations for each multiplication; attention has two products of queries, keys and values."""
        return 2 * self.weights * self.positions + 4 * self.width * self.scores


PartWork = Mapping[str, tuple[Work, ...]]
"""The work of each part, by the name that it has in the model's state_dict."""


def stack_work(stack: Stack, positions: float, scores: float) -> Work:
    """A stack that reads so many positions, with so many pairs in each layer."""
    return Work(matmul_parameters(stack), positions, stack.config.dim * stack.config.layers, scores)


def table_work(table: nn.Embedding, positions: float) -> Work:
    """A table of symbols that makes the logits of so many positions."""
    return Work(table.weight.numel(), positions)


def matmul_parameters(module: nn.Module) -> int:
    """The weights of all linear layers and convolutions in it."""
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear | nn.Conv1d))


def total_flops(work: PartWork) -> float:
    """The operations of all parts."""
    return sum(each.flops for part in work.values() for each in part)


def mean_work(steps: Sequence[PartWork]) -> PartWork:
    """The mean of steps (at least one) of the same parts, which differ in positions and scores alone."""
    return {name: tuple(map(_mean, zip(*(step[name] for step in steps), strict=True))) for name in steps[0]}


def _mean(same: Sequence[Work]) -> Work:
    positions, scores = (
        sum(counts) / len(same) for counts in zip(*((w.positions, w.scores) for w in same), strict=True)
    )
    return Work(same[0].weights, positions, same[0].width, scores)
