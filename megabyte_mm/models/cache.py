"""Keys and values of the positions that a decoder has already seen."""

from __future__ import annotations

import torch
from torch import Tensor


class LayerCache:
    """One attention layer's keys and values, in memory taken once for `capacity` positions.

    Legend: B rows, H heads, T new positions, S positions held, E head width.
    """

    def __init__(self, batch: int, heads: int, capacity: int, head_dim: int, like: Tensor) -> None:
        self._keys_BHCE = like.new_empty(batch, heads, capacity, head_dim)
        self._values_BHCE = torch.empty_like(self._keys_BHCE)
        self.length = 0

    def append(self, keys_BHTE: Tensor, values_BHTE: Tensor) -> tuple[Tensor, Tensor]:
        """Remember T more positions and return all that are held: two tensors (B, H, S, E)."""
        end = self.length + keys_BHTE.shape[2]
        self._keys_BHCE[:, :, self.length : end] = keys_BHTE
        self._values_BHCE[:, :, self.length : end] = values_BHTE
        self.length = end
        return self.held()

    def held(self) -> tuple[Tensor, Tensor]:
        """The keys and values of all positions that are held: views (B, H, S, E), valid until the next change."""
        return self._keys_BHCE[:, :, : self.length], self._values_BHCE[:, :, : self.length]

    def clear(self) -> None:
        """Forget all positions; the memory stays."""
        self.length = 0
