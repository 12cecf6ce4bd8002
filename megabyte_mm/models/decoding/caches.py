"""Keys and values of the positions that a decoder has already seen."""

from __future__ import annotations

from torch import Tensor


class LayerCache:
    """One attention layer's keys and values, in memory taken once for `capacity` positions.

    Whole sequences are appended to it, all rows by the same number of positions; steps write where each row is.

    Legend: B rows, H heads, T new positions, C capacity, S positions held, E head width.
    """

    def __init__(self, keys_BHCE: Tensor, values_BHCE: Tensor) -> None:
        self.keys, self.values = keys_BHCE, values_BHCE
        self.length = 0
        """How many positions were appended; steps do not count."""

    @classmethod
    def empty(cls, batch: int, heads: int, capacity: int, head_dim: int, like: Tensor) -> LayerCache:
        """A cache of no positions. What is masked is multiplied by 0, so that it must be finite: all is 0."""
        keys_BHCE, values_BHCE = (like.new_zeros(batch, heads, capacity, head_dim) for _ in range(2))
        return cls(keys_BHCE, values_BHCE)

    @property
    def rows(self) -> int:
        """How many sequences it is for."""
        return len(self.keys)

    @property
    def capacity(self) -> int:
        """How many positions of each it holds at most."""
        return self.keys.shape[2]

    def row(self, row: int) -> LayerCache:
        """An empty cache for that row alone, in the same memory."""
        return LayerCache(self.keys[row : row + 1], self.values[row : row + 1])

    def copy_row(self, source: int, to: int, length: int) -> None:
        """Let a row hold the first positions that another does."""
        for cached_BHCE in (self.keys, self.values):
            cached_BHCE[to, :, :length] = cached_BHCE[source, :, :length]

    def append(self, keys_BHTE: Tensor, values_BHTE: Tensor) -> tuple[Tensor, Tensor]:
        """Remember T more positions and return all that are held: two tensors (B, H, S, E)."""
        end = self.length + keys_BHTE.shape[2]
        self.keys[:, :, self.length : end] = keys_BHTE
        self.values[:, :, self.length : end] = values_BHTE
        self.length = end
        return self.held()

    def held(self) -> tuple[Tensor, Tensor]:
        """The keys and values of all positions that were appended: views (B, H, S, E), valid until the next change."""
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def put(self, keys_BHE: Tensor, values_BHE: Tensor, slot_B: Tensor) -> None:
        """Write one position of each row where it belongs."""
        index_BH1E = slot_B.view(-1, 1, 1, 1).expand(-1, *keys_BHE.shape[1:2], 1, keys_BHE.shape[2])
        rows = len(slot_B)
        self.keys[:rows].scatter_(2, index_BH1E, keys_BHE.unsqueeze(2).to(self.keys.dtype))
        self.values[:rows].scatter_(2, index_BH1E, values_BHE.unsqueeze(2).to(self.values.dtype))

    def clear(self) -> None:
        """Forget all positions; the memory stays."""
        self.length = 0
