"""The parts of a model, with what each holds and does."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from megabyte_mm.models import ByteModel
from megabyte_mm.models.embedders import PatchEmbedder, SequenceEmbedder
from megabyte_mm.models.work import PartWork


@dataclass(frozen=True)
class Part:
    """One part of a model.

    Args:
        name: As in the model's state_dict.
        parameters: All weights in it. A table that input and output share is counted once.
        flops: Floating-point operations of a forward pass, per byte of a full window.
        training_flops: The same of a training step: forward, and backward with twice as many.
    """

    name: str
    parameters: int
    flops: float
    training_flops: float


def parts(model: ByteModel) -> list[Part]:
    """The parts, in the order in which the model holds them; every parameter belongs to one.

    Raises ValueError for an architecture that does not tell its work.
    """
    forward, training = model.work(), model.training_work()
    counted: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = part_of(model, name)
        counted[part] = counted.get(part, 0) + parameter.numel()
    return [
        Part(name, count, _flops(forward, name) / model.max_len, 3 * _flops(training, name) / model.max_len)
        for name, count in counted.items()
    ]


def part_of(model: nn.Module, parameter: str) -> str:
    """The part that a parameter belongs to: the module just below the model, or below the embedder."""
    top, *below = parameter.split(".")
    inside = getattr(model, top)
    return f"{top}.{below[0]}" if isinstance(inside, PatchEmbedder | SequenceEmbedder) else top


def _flops(work: PartWork, name: str) -> float:
    return sum(each.flops for each in work.get(name, ()))
