"""Keys and values of the positions that a decoder has read."""

from __future__ import annotations

import torch
from torch import Tensor


class LayerCache:
    """The keys and values of one attention layer, preallocated for `capacity` positions.

    `append` adds the same number of positions to all rows; `put` writes one position of each row at a slot of its own.

    Legend: B rows, H heads, T new positions, C capacity, S positions held, E head width.
    """

    def __init__(self, keys_BHCE: Tensor, values_BHCE: Tensor) -> None:
        self.keys, self.values = keys_BHCE, values_BHCE
        self.length = 0
        """Positions that were appended; those of `put` are not counted."""

    @classmethod
    def empty(
        cls, batch: int, heads: int, capacity: int, head_dim: int, like: Tensor, dtype: torch.dtype | None = None
    ) -> LayerCache:
        """A cache of no positions, zeroed: masked values are multiplied by 0, so they must be finite."""
        keys_BHCE, values_BHCE = (like.new_zeros(batch, heads, capacity, head_dim, dtype=dtype) for _ in range(2))
        return cls(keys_BHCE, values_BHCE)

    @property
    def rows(self) -> int:
        """The number of sequences."""
        return len(self.keys)

    @property
    def capacity(self) -> int:
        """The most positions of a row."""
        return self.keys.shape[2]

    def row(self, row: int) -> LayerCache:
        """An empty cache of that row alone, in the same memory."""
        return LayerCache(self.keys[row : row + 1], self.values[row : row + 1])

    def copy_row(self, source: int, to: int, length: int) -> None:
        """Copy the first positions of a row to another."""
        for cached_BHCE in (self.keys, self.values):
            cached_BHCE[to, :, :length] = cached_BHCE[source, :, :length]

    def append(self, keys_BHTE: Tensor, values_BHTE: Tensor) -> tuple[Tensor, Tensor]:
        """Add T positions and return all that are held: two tensors (B, H, S, E)."""
        end = self.length + keys_BHTE.shape[2]
        self.keys[:, :, self.length : end] = keys_BHTE
        self.values[:, :, self.length : end] = values_BHTE
        self.length = end
        return self.held()

    def held(self) -> tuple[Tensor, Tensor]:
        """The keys and values of all appended positions: views (B, H, S, E), valid until the next change."""
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def put(self, keys_BHE: Tensor, values_BHE: Tensor, slot_B: Tensor) -> None:
        """Write one position of each row at its slot."""
        index_BH1E = slot_B.view(-1, 1, 1, 1).expand(-1, *keys_BHE.shape[1:2], 1, keys_BHE.shape[2])
        rows = len(slot_B)
        self.keys[:rows].scatter_(2, index_BH1E, keys_BHE.unsqueeze(2).to(self.keys.dtype))
        self.values[:rows].scatter_(2, index_BH1E, values_BHE.unsqueeze(2).to(self.values.dtype))

    def clear(self) -> None:
        """Remove all positions; the memory stays."""
        self.length = 0
