"""Floating-point operations of a model, by module, from torch's counter on the meta device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from megabyte_mm.models.layers import Stack

if TYPE_CHECKING:
    from megabyte_mm.models.base import ByteModel

MATRIX_OPERATIONS = ("mm", "addmm", "convolution")
"""torch's operations that multiply with weights; those of attention multiply batches of matrices."""


@dataclass(frozen=True)
class Flops:
    """Operations over a full window of one row: two for each multiplication.

    Args:
        matrices: Of products with weights: linear layers, convolutions, the table that makes logits.
        attention: Of queries with keys and of scores with values; pairs that causality hides are counted too.
    """

    matrices: float = 0.0
    attention: float = 0.0

    @property
    def total(self) -> float:
        """Both kinds together."""
        return self.matrices + self.attention

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.matrices + other.matrices, self.attention + other.attention)

    def __mul__(self, times: float) -> Flops:
        return Flops(self.matrices * times, self.attention * times)


FlopsByModule = Mapping[str, Flops]
"""Operations of each module by its name, with those of the modules inside it; of the whole model under ""."""


def total_flops(flops: FlopsByModule) -> float:
    """Operations of the whole model."""
    return flops[""].total


def count_flops(model: ByteModel) -> FlopsByModule:
    """Count the operations of `forward` over a full window of one row, on a copy of the model without memory.

    Operations that no module's `forward` claims are those of the tied embeddings, which make the logits.
    """
    with torch.device("meta"):
        copy = model.config.longest_row.build().eval()
        ids_1T = torch.zeros(1, model.max_len, dtype=torch.long)
    layers = _keep_first_blocks(copy)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        copy(ids_1T)
    flops = {_name_below(copy, name): _flops(counts) for name, counts in counter.get_flop_counts().items()}
    for stack, count in layers.items():
        _add_to_ancestors(flops, stack, flops[f"{stack}.blocks.0"] * (count - 1))
    children = sum((flops.get(name, Flops()) for name, _ in copy.named_children()), Flops())
    for name in copy.tied_embeddings[:1]:
        flops[name.removesuffix(".weight")] = flops[""] + children * -1
    return flops


def _keep_first_blocks(model: nn.Module) -> dict[str, int]:
    """Cut each stack down to its first block, as all are alike, and return how many it had, by its name."""
    stacks = {name: module for name, module in model.named_modules() if isinstance(module, Stack)}
    layers = {name: len(stack.blocks) for name, stack in stacks.items()}
    for stack in stacks.values():
        stack.blocks = stack.blocks[:1]
    return layers


def _name_below(model: nn.Module, counted: str) -> str:
    """A module's name from the counter's, which begins with the model's class; both have one for the whole."""
    return "" if counted == "Global" else counted.removeprefix(type(model).__name__).removeprefix(".")


def _flops(counts: Mapping[object, int]) -> Flops:
    matrices = sum(count for op, count in counts.items() if str(op).rpartition(".")[2] in MATRIX_OPERATIONS)
    return Flops(matrices, sum(counts.values()) - matrices)


def _add_to_ancestors(flops: dict[str, Flops], name: str, more: Flops) -> None:
    parts = name.split(".") if name else []
    for depth in range(len(parts) + 1):
        ancestor = ".".join(parts[:depth])
        flops[ancestor] = flops[ancestor] + more


def multiplied_weights(model: ByteModel) -> dict[str, int]:
    """Weights of linear layers, convolutions and tied embeddings, by the model's direct modules."""
    names = {name.removesuffix(".weight") for name in model.tied_embeddings}
    weights: dict[str, int] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv1d) or name in names:
            top = name.partition(".")[0]
            weights[top] = weights.get(top, 0) + module.weight.numel()
    return weights
