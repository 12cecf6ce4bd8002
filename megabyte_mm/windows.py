"""The windows in which a stream is scored, and the symbols that each of them scores.

A stream of n bytes has n symbols to score, and one more, the first END, where it ends inside its last edge-to-edge
window. Sliding windows overlap by about half: the first symbols of each but the first window are context, scored by the
window before. Edge to edge or sliding, the same symbols are scored, each once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ScoringWindows:
    """The windows of streams, numbered from 0 in each stream; a stream of no bytes has none.

    window: symbols, a multiple of unit. unit: bytes that stay together: windows start at multiples of it. sliding:
    overlap by about half a window. fixed_length: streams never end, as pictures of one size; then no END is scored.
    """

    window: int
    unit: int = 1
    sliding: bool = False
    fixed_length: bool = False

    @property
    def stride(self) -> int:
        """Symbols from the start of a window to the next one's."""
        return max(self.unit, self.window // 2 // self.unit * self.unit) if self.sliding else self.window

    def num_symbols(self, lengths: Ints) -> Ints:
        """Scored symbols of each stream: (R,) bytes -> (R,)."""
        ends_inside = (lengths % self.window != 0) & (not self.fixed_length)
        symbols: Ints = lengths + ends_inside
        return symbols

    def num_windows(self, lengths: Ints) -> Ints:
        """Windows of each stream: (R,) bytes -> (R,)."""
        beyond_first = np.maximum(self.num_symbols(lengths) - self.window, 0)
        return np.where(lengths > 0, 1 + -(-beyond_first // self.stride), 0)

    def locate(self, lengths: Ints, numbers: Ints) -> tuple[Ints, Ints]:
        """The first symbol of each window, and its number of leading symbols that are only context: twice (B,).

        lengths: (B,) bytes of the stream of each window. numbers: (B,) the window's number in its stream.
        """
        starts = numbers * self.stride
        # Where no END is scored, none may be read: with an uneven stride the last window would reach over the edge.
        fills_windows = (lengths > 0) & (lengths % self.window == 0)
        clipped = np.where(fills_windows, np.minimum(starts, lengths - self.window), starts)
        scored_before = starts - self.stride + self.window
        return clipped, np.where(numbers > 0, scored_before - clipped, 0)
