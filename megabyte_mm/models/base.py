"""What training, scoring, generation and compression may ask of a model, whatever its architecture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Decoder(ABC):
    """Gives the distribution of one symbol after the other, remembering what it has seen.

    Its numbers are those of the model's `forward` at every position. It holds at most `capacity` symbols.
    """

    capacity: int
    alignment: int
    """A long context is best cut at multiples of this many symbols."""

    @abstractmethod
    def prefill(self, ids_BT: Tensor) -> Tensor:
        """Forget everything, read a prefix (T >= 0) and return the next symbol's logits.

        ids: (B, T) int64, 0..256, T < capacity -> (B, 257). Raises ValueError where T is too long.
        """

    @abstractmethod
    def step(self, ids_B: Tensor) -> Tensor:
        """Read one more symbol of each row and return the next one's logits: (B,) int64 -> (B, 257).

        Raises ValueError where the symbol would be the last that fits, since nothing can follow it.
        """


class ByteModel(nn.Module, ABC):
    """An autoregressive model of symbols 0..256. Position t of its output is the distribution of symbol t."""

    name: ClassVar[str]
    """Stable name, kept in checkpoints."""
    config: Any
    """The frozen dataclass that built this model."""

    @abstractmethod
    def forward(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> Tensor:
        """Logits of every symbol given the ones before it.

        ids: (B, T) int64, 0..256, 1 <= T <= max_len; condition: (B,) int64, default 0 -> (B, T, 257).
        """

    @abstractmethod
    def decoder(self, batch: int, condition_B: Tensor | None = None) -> Decoder:
        """A decoder for `batch` rows that shares this model's weights."""

    @abstractmethod
    def flops_per_byte(self) -> float:
        """Estimated floating-point operations of one forward pass, per byte of a full window."""

    def nll(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> Tensor:
        """Negative log-likelihood of every symbol in nats: (B, T) int64 -> (B, T) float32."""
        logits_BVT = self(ids_BT, condition_B).float().transpose(1, 2)
        return F.cross_entropy(logits_BVT, ids_BT, reduction="none")

    def spec(self) -> dict[str, Any]:
        """Name and plain config: enough for `models.build` to make the same architecture."""
        return {"name": self.name, "config": asdict(self.config)}


def condition_ids(condition_B: Tensor | None, batch: int, device: torch.device) -> Tensor:
    """The given conditions, or 0 for every row. Raises ValueError where there is not one for each row."""
    if condition_B is None:
        return torch.zeros(batch, dtype=torch.long, device=device)
    if condition_B.shape != (batch,):
        raise ValueError(f"condition has shape {tuple(condition_B.shape)}, expected ({batch},)")
    return condition_B
