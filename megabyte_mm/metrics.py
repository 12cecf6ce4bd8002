"""Bits per byte: all nats, those of END included, over the number of bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from megabyte_mm.alphabet import END, scored

ALL = slice(None)


def mean_nats(nats_Bt: Tensor, ids_BT: Tensor, span: slice = ALL, scored_BT: Tensor | None = None) -> Tensor:
    """The training loss: the mean over the scored symbols, in nats per symbol.

    nats: (B, t) of the symbols `ids[:, span]`, as of `ByteModel.training_nll`; ids: (B, T) int64; scored: (B, T) bool,
    by default all bytes and the first END of each row -> scalar.
    """
    sums = totals(nats_Bt, ids_BT, span, scored_BT)
    return sums.nats / sums.symbols.clamp(min=1)


class Totals(NamedTuple):
    """The nats of all scored symbols, the number of these symbols, and how many of them are bytes: three scalars."""

    nats: Tensor
    symbols: Tensor
    bytes: Tensor


def totals(nats_Bt: Tensor, ids_BT: Tensor, span: slice = ALL, scored_BT: Tensor | None = None) -> Totals:
    """The totals of one batch; arguments as of `mean_nats`."""
    scored_BT = scored(ids_BT) if scored_BT is None else scored_BT
    return _totals(nats_Bt, ids_BT[:, span], scored_BT[:, span])


def _totals(nats_Bt: Tensor, ids_Bt: Tensor, scored_Bt: Tensor) -> Totals:
    nats = nats_Bt.where(scored_Bt, 0.0).sum()
    return Totals(nats, scored_Bt.sum(), (scored_Bt & (ids_Bt != END)).sum())


class BitsPerByte(Metric):
    """Sums nats and bytes over batches and ranks, and divides once: exact for windows and batches of any size."""

    full_state_update = False
    higher_is_better = False
    nats: Tensor
    bytes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("nats", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("bytes", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, nats_BT: Tensor, ids_BT: Tensor, scored_BT: Tensor | None = None) -> None:
        """Count a batch: nats (B, T) float as of `ByteModel.nll`, ids (B, T) int64, 0..256.

        scored: (B, T) bool, the symbols that count; by default all bytes and the first END of each row.
        """
        sums = totals(nats_BT.to(self.nats.dtype), ids_BT, scored_BT=scored_BT)
        self.nats += sums.nats
        self.bytes += sums.bytes

    def compute(self) -> Tensor:
        """Bits per byte, a float64 scalar; nan before the first byte."""
        return self.nats / self.bytes / math.log(2)

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ()) -> Any:
        """Move to another device; Apple's accelerator has no float64, and sums in float32."""
        try:
            fn(torch.zeros((), dtype=torch.float64))
        except TypeError:
            self.nats = self.nats.float()
            self._defaults["nats"] = torch.zeros(())
        return super()._apply(fn, exclude_state)
