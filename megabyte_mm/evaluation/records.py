"""Scores of records of several parts: the nats of each part, given the parts before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from megabyte_mm.alphabet import END
from megabyte_mm.evaluation.scoring import to_bits_per_byte
from megabyte_mm.models import ByteModel


@dataclass(frozen=True)
class PartScore:
    """The cost of a part behind the parts before it: nats, its END's too, and its bytes."""

    nats: float
    bytes: int

    @property
    def bits_per_byte(self) -> float:
        """nan for a part of no bytes."""
        return to_bits_per_byte(self.nats, self.bytes)

    def __add__(self, other: PartScore) -> PartScore:
        return PartScore(self.nats + other.nats, self.bytes + other.bytes)


@torch.no_grad()
def score_records(
    model: ByteModel, batches: Iterable[tuple[Tensor, Tensor, Tensor]], parts: Mapping[str, slice]
) -> Iterator[dict[str, PartScore]]:
    """Yield the score of each part of each record.

    batches: (ids, condition, scored) as of `data.Batch`. parts: the symbols of each part in a row. The model should be
    in eval mode.
    """
    device = next(model.parameters()).device
    for ids_BT, condition_B, scored_BT in batches:
        nats_BT = model.nll(ids_BT.to(device), condition_B.to(device)).double().cpu().where(scored_BT, 0.0)
        is_byte_BT = scored_BT & (ids_BT != END)
        columns = {name: (nats_BT[:, t].sum(1).tolist(), is_byte_BT[:, t].sum(1).tolist()) for name, t in parts.items()}
        for row in range(len(ids_BT)):
            yield {name: PartScore(nats[row], size[row]) for name, (nats, size) in columns.items()}
