"""How often each part of a model is multiplied with, in a forward pass and in a training step.

Legend: T symbols of a window, P symbols of a patch, M latents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch

from torch import nn

from megabyte_mm.models import ByteModel, Megabyte, PerceiverAR, Transformer
from megabyte_mm.models.layers import Stack, matmul_parameters
from megabyte_mm.models.perceiver_ar import Stretch


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
"""The work of each part, by the name of its module in the model."""


def stack_work(stack: Stack, positions: float, scores: float) -> Work:
    """A stack that reads so many positions, with so many pairs in each layer."""
    return Work(matmul_parameters(stack), positions, stack.config.dim * stack.config.layers, scores)


@singledispatch
def forward_work(model: ByteModel) -> PartWork:
    """The work of a forward pass over a full window. Raises ValueError for an architecture that is not known here."""
    raise ValueError(f"no costs are known for {type(model).__name__}")


@forward_work.register
def _(model: Transformer) -> PartWork:
    length = model.max_len
    return {
        "stack": (stack_work(model.stack, length, length * model.block_size(length)),),
        "embedder.symbols": (Work(model.embedder.symbols.weight.numel(), length),),
    }


@forward_work.register
def _(model: Megabyte) -> PartWork:
    length, patches = model.max_len, model.max_len / model.patch_size
    found: dict[str, tuple[Work, ...]] = {}
    if model.global_stack is not None:
        found["global_stack"] = (stack_work(model.global_stack, patches, patches * model.max_patches),)
        if model.embedder.convolutions is not None:
            weights = sum(part.weight.numel() for part in model.embedder.modules() if isinstance(part, nn.Conv1d))
            found["embedder.convolutions"] = (Work(weights, length),)
    if model.local_stack is not None:
        seen = model.patch_size + model.config.cross_patch
        found["local_stack"] = (stack_work(model.local_stack, length, length * seen),)
        found["local_symbols"] = (Work(model.local_symbols.weight.numel(), length),)
    per_position = {"to_local": length, "heads": patches}
    for name, positions in per_position.items():
        if hasattr(model, name):
            found[name] = (Work(matmul_parameters(getattr(model, name)), positions),)
    return found


@forward_work.register
def _(model: PerceiverAR) -> PartWork:
    return _perceiver_work(model, model.max_len, model.max_len, model.stretches(model.max_len))


def training_work(model: ByteModel) -> PartWork:
    """The work of the forward half of a training step, on average over the places that it may learn from."""
    if not isinstance(model, PerceiverAR):
        return forward_work(model)
    steps = [
        _perceiver_work(model, stretch.end - stretch.oldest, stretch.end - stretch.first, [stretch])
        for stretch in model.training_stretches(model.max_len)
    ]
    return {name: _mean([step[name] for step in steps]) for name in steps[0]}


def _perceiver_work(model: PerceiverAR, read: int, predicted: int, stretches: list[Stretch]) -> PartWork:
    """read: positions whose keys are made. predicted: positions whose logits are."""
    latents = [stretch.end - stretch.first for stretch in stretches]
    positions = sum(latents)
    keys = matmul_parameters(model.reader.kv)
    crossing = Work(
        matmul_parameters(model.reader) - keys,
        positions,
        model.config.stack.dim,
        sum((stretch.end - stretch.first) * (stretch.end - stretch.oldest) for stretch in stretches),
    )
    return {
        "reader": (Work(keys, read), crossing),
        "stack": (stack_work(model.stack, positions, sum(count**2 for count in latents)),),
        "embedder.symbols": (Work(model.embedder.symbols.weight.numel(), predicted),),
    }


def _mean(steps: list[tuple[Work, ...]]) -> tuple[Work, ...]:
    """The mean of each product over steps that differ in positions and scores alone."""
    return tuple(
        Work(
            same[0].weights,
            sum(work.positions for work in same) / len(same),
            same[0].width,
            sum(work.scores for work in same) / len(same),
        )
        for same in zip(*steps, strict=True)
    )
