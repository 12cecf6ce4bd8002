"""A model of several parts as one of the rows of a single condition: what files of one source are read with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from megabyte_mm.models.base import DEFAULT_STEP, ByteModel, Decoder, StepOptions
from megabyte_mm.models.decoding.execution import Execution
from megabyte_mm.models.megabyte.model import Megabyte


class OneOrder(ByteModel):
    """The rows of one condition of a `Megabyte` with parts; patch_size is that of their first part.

    It holds the same weights. A condition that is passed to it has no effect.
    """

    def __init__(self, model: Megabyte, condition: int) -> None:
        super().__init__()
        self.model, self.condition = model, condition
        self.config = model.config.with_one_order(condition)
        assert self.config.max_len is not None
        self.patch_size, self.max_len = self.config.order(0)[0].patch_size, self.config.max_len

    @property
    def max_positions(self) -> int:
        return self.max_len

    @property
    def tied_embeddings(self) -> tuple[str, ...]:
        return tuple(f"model.{name}" for name in self.model.tied_embeddings)

    def forward(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> Tensor:
        logits_BTV: Tensor = self.model(ids_BT, self._conditions(ids_BT))
        return logits_BTV

    def nll(self, ids_BT: Tensor, condition_B: Tensor | None = None, options: StepOptions = DEFAULT_STEP) -> Tensor:
        return self.model.nll(ids_BT, self._conditions(ids_BT), options)

    def new_decoder(self, condition_B: Tensor, capacity: int, execution: Execution) -> Decoder:
        return self.model.new_decoder(torch.full_like(condition_B, self.condition), capacity, execution)

    def spec(self) -> dict[str, Any]:
        """That of the whole model."""
        return self.model.spec()

    def _conditions(self, ids_BT: Tensor) -> Tensor:
        self.check_length(ids_BT.shape[1])
        return torch.full((len(ids_BT),), self.condition, device=ids_BT.device)
