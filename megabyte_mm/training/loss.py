"""What the batches of one update cost together, over all devices: so that the loss is one mean over all its symbols."""

from __future__ import annotations

import math

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor

from megabyte_mm.metrics import Totals


class AccumulatedLoss:
    """Adds up nats, symbols and bytes over the devices, and over the batches whose gradients are accumulated.

    Devices differ in how many of their symbols count, and so do batches, where files end inside windows. The mean of
    their means, which is what strategies and Lightning take of losses, would weigh the symbols of a short one more.
    """

    def __init__(self, strategy: Strategy, world_size: int, batches: int) -> None:
        """batches: how many are accumulated in an update."""
        self._strategy, self._world_size, self._batches = strategy, world_size, batches
        self._sums: Totals | None = None
        self._unit: Tensor

    def add(self, own: Totals) -> Tensor:
        """The loss of one device's batch: such that the mean over devices is the batch's nats over a common unit.

        The unit is the number of symbols of the update's first batch, of all devices: with one batch, their mean.
        """
        batch = self._over_devices(Totals(own.nats.detach(), own.symbols, own.bytes))
        if self._sums is None:
            self._sums, self._unit = batch, batch.symbols.clamp(min=1)
        else:
            self._sums = Totals(*(before + more for before, more in zip(self._sums, batch, strict=True)))
        return own.nats * self._world_size / self._unit

    @property
    def nats_per_symbol(self) -> Tensor:
        """Of the update so far: a scalar."""
        assert self._sums is not None
        return self._sums.nats / self._sums.symbols.clamp(min=1)

    @property
    def bits_per_byte(self) -> Tensor:
        """Of the update so far: a scalar; nan where it holds no byte."""
        assert self._sums is not None
        return self._sums.nats / self._sums.bytes / math.log(2)

    def close(self) -> float | None:
        """End the update, and say what its gradient is to be multiplied with; None for nothing.

        Lightning has divided each loss by the number of batches that are usually accumulated.
        """
        assert self._sums is not None
        sums, self._sums = self._sums, None
        if self._batches == 1:
            return None
        return self._batches * float(self._unit) / max(float(sums.symbols), 1.0)

    def _over_devices(self, own: Totals) -> Totals:
        if self._world_size == 1:
            return own
        sums = self._strategy.reduce(torch.stack([value.double() for value in own]), reduce_op="sum")
        return Totals(*sums.unbind())
