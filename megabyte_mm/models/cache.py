"""Keys and values of the positions that a decoder has already seen."""

from __future__ import annotations

import torch
from torch import Tensor


class LayerCache:
    """One attention layer's keys and values, in memory taken once for `capacity` positions.

    Legend: B rows, H heads, T new positions, S positions held, D head width.
    """

    def __init__(self, batch: int, heads: int, capacity: int, head_dim: int, like: Tensor) -> None:
        self._keys_BHCD = like.new_empty(batch, heads, capacity, head_dim)
        self._values_BHCD = torch.empty_like(self._keys_BHCD)
        self.length = 0

    def append(self, keys_BHTD: Tensor, values_BHTD: Tensor) -> tuple[Tensor, Tensor]:
        """Remember T more positions and return all that are held: two tensors (B, H, S, D)."""
        end = self.length + keys_BHTD.shape[2]
        self._keys_BHCD[:, :, self.length : end] = keys_BHTD
        self._values_BHCD[:, :, self.length : end] = values_BHTD
        self.length = end
        return self._keys_BHCD[:, :, :end], self._values_BHCD[:, :, :end]

    def clear(self) -> None:
        """Forget all positions; the memory stays."""
        self.length = 0
