"""What a model computes in training, to compare two ways of computing it."""

from __future__ import annotations

from torch import Tensor

from megabyte_mm.models import ByteModel, StepOptions


def nats_and_gradients(model: ByteModel, ids: Tensor, budget: float) -> list[Tensor]:
    """The nats of each symbol, and the gradients of their sum, with a budget of bytes for activations."""
    model.zero_grad()
    nats = model.nll(ids, options=StepOptions(budget))
    nats.sum().backward()
    return [nats.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]
