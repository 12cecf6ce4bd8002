"""Scores of records of several parts: the nats of each part, given the parts before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from megabyte_mm.alphabet import END
from megabyte_mm.evaluation.curves import Floats
from megabyte_mm.evaluation.scoring import to_bits_per_byte
from megabyte_mm.models import ByteModel


@dataclass(frozen=True)
class PartScore:
    """The cost of parts behind the parts before them: nats, those of END too, and bytes."""

    nats: float
    bytes: int

    @property
    def bits_per_byte(self) -> float:
        """nan for a part of no bytes."""
        return to_bits_per_byte(self.nats, self.bytes)

    def __add__(self, other: PartScore) -> PartScore:
        return PartScore(self.nats + other.nats, self.bytes + other.bytes)


@dataclass(frozen=True)
class ScoredPart:
    """One part of a record. nats: (n,) of its n bytes, or (n + 1,) where its END is scored. bytes: n."""

    nats: Floats
    bytes: int

    @property
    def score(self) -> PartScore:
        return PartScore(float(self.nats.sum()), self.bytes)


@torch.no_grad()
def score_records(
    model: ByteModel, batches: Iterable[tuple[Tensor, Tensor, Tensor]], parts: Mapping[str, slice]
) -> Iterator[dict[str, ScoredPart]]:
    """Yield the parts of each record, scored.

    batches: (ids, condition, scored) as of `data.Batch`. parts: the symbols of each part in a row. The model should be
    in eval mode.
    """
    device = next(model.parameters()).device
    for ids_BT, condition_B, scored_BT in batches:
        nats_BT = model.nll(ids_BT.to(device), condition_B.to(device)).double().cpu().numpy()
        is_scored_BT = scored_BT.numpy()
        is_byte_BT = is_scored_BT & (ids_BT != END).numpy()
        for nats_T, is_scored_T, is_byte_T in zip(nats_BT, is_scored_BT, is_byte_BT, strict=True):
            yield {name: ScoredPart(nats_T[t][is_scored_T[t]], int(is_byte_T[t].sum())) for name, t in parts.items()}
