"""Which windows ("views") of a stream are read to score it, and which symbols of each view count.

A stream of n bytes has n symbols to score, and one more, the first END, where it ends inside its last edge-to-edge
window. Plain views lie edge to edge. Sliding views overlap by about half a window: of each but the first, the leading
symbols are context that the view before has scored. Both score the same symbols, and each of them once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Views:
    """How streams are cut into views, which for each stream are numbered from 0; one of no bytes has none.

    window: symbols of a view, a multiple of unit. unit: bytes that stay together: views start at multiples of it.
    fixed_length: whether streams never end, as pictures of one size; then no END is scored.
    """

    window: int
    unit: int = 1
    sliding: bool = False
    fixed_length: bool = False

    @property
    def stride(self) -> int:
        """From the start of a view to the next one's."""
        return max(self.unit, self.window // 2 // self.unit * self.unit) if self.sliding else self.window

    def symbols(self, lengths: Ints) -> Ints:
        """How many symbols of each stream are scored: (R,) bytes -> (R,)."""
        ends_inside = (lengths % self.window != 0) & (not self.fixed_length)
        symbols: Ints = lengths + ends_inside
        return symbols

    def counts(self, lengths: Ints) -> Ints:
        """How many views each stream has: (R,) bytes -> (R,)."""
        beyond_first = np.maximum(self.symbols(lengths) - self.window, 0)
        return np.where(lengths > 0, 1 + -(-beyond_first // self.stride), 0)

    def located(self, lengths: Ints, numbers: Ints) -> tuple[Ints, Ints]:
        """The first symbol of each view, and how many of its leading symbols are only context: twice (B,).

        lengths: (B,) bytes of the stream that each view is of. numbers: (B,) the view's number in its stream.
        """
        starts = numbers * self.stride
        # Where no END is scored, none may be seen: with an uneven stride the last view would reach over the edge.
        whole = (lengths > 0) & (lengths % self.window == 0)
        moved = np.where(whole, np.minimum(starts, lengths - self.window), starts)
        scored_before = starts - self.stride + self.window
        return moved, np.where(numbers > 0, scored_before - moved, 0)
