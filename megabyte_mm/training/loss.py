"""The loss of an update: one mean over the symbols of all its batches, on all devices."""

from __future__ import annotations

import math

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor

from megabyte_mm.metrics import Totals


class AccumulatedLoss:
    """Sums nats, symbols and bytes over the devices and over the batches of an update.

    Devices and batches differ in the number of symbols that count, where files end inside windows. Strategies and
    Lightning take the mean of their means, which would weigh the symbols of a short batch more.
    """

    def __init__(self, strategy: Strategy, world_size: int, batches: int) -> None:
        """batches: how many are accumulated in one update."""
        self._strategy, self._world_size, self._batches = strategy, world_size, batches
        self._sums: Totals | None = None
        self._symbols: Tensor
        """Symbols of the update, as often as they weigh."""
        self._divisor: Tensor

    def add(self, local_totals: Totals, weighted: Totals | None = None) -> Tensor:
        """The loss of a batch on this device; its mean over devices is the nats of the batch divided by one number.

        This number counts the symbols of the first batch of the update on all devices: with one batch, the loss is
        the mean over all symbols. `finish` corrects it for several. weighted: the totals to take the loss of, where
        symbols have weights; `local_totals` are what is logged.
        """
        learned = local_totals if weighted is None else weighted
        batch = self._reduce(_detached(local_totals))
        symbols = batch.symbols if weighted is None else self._reduce(_detached(weighted)).symbols
        if self._sums is None:
            self._sums, self._symbols = batch, symbols
            self._divisor = symbols.where(symbols > 0, 1)
        else:
            self._sums = Totals(*(before + more for before, more in zip(self._sums, batch, strict=True)))
            self._symbols = self._symbols + symbols
        return learned.nats * self._world_size / self._divisor

    @property
    def nats_per_symbol(self) -> Tensor:
        """Nats per symbol of the update so far: a scalar."""
        assert self._sums is not None
        return self._sums.nats / self._sums.symbols.clamp(min=1)

    @property
    def bits_per_byte(self) -> Tensor:
        """Bits per byte of the update so far: a scalar; nan without bytes."""
        assert self._sums is not None
        return self._sums.nats / self._sums.bytes / math.log(2)

    def finish(self) -> Tensor | None:
        """End the update, and return the factor for its gradient, a scalar on the device; None for 1.

        Lightning has divided each loss by the number of batches in an update.
        """
        assert self._sums is not None
        self._sums = None
        if self._batches == 1:
            return None
        return self._batches * self._divisor / self._symbols.where(self._symbols > 0, 1)

    def _reduce(self, local_totals: Totals) -> Totals:
        if self._world_size == 1:
            return local_totals
        sums = self._strategy.reduce(torch.stack([value.double() for value in local_totals]), reduce_op="sum")
        return Totals(*sums.unbind())


def _detached(sums: Totals) -> Totals:
    return Totals(sums.nats.detach(), sums.symbols, sums.bytes)
