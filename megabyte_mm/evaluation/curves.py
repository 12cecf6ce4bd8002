"""Mean bits by position in the patch and in the window: figures 4 and 5 of Yu et al. (2023)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from megabyte_mm.evaluation.scoring import Score

Floats = NDArray[np.float64]

SPARSE = 1 / 20
"""Positions with less than this share of the fullest position's symbols are not plotted. Strided scoring leaves only
the first patch of each window to the second half of a patch, sliding only a file's first window to the first half."""


class Curves:
    """Sums over the symbols of any number of scored streams, by their position when they were predicted."""

    def __init__(self, patch_size: int, window: int) -> None:
        self._patch = np.zeros((2, patch_size))
        self._window = np.zeros((2, window))

    def add(self, score: Score) -> None:
        """Add the symbols of one more stream."""
        for sums, positions in ((self._patch, score.patch_position), (self._window, score.window_position)):
            sums[0] += np.bincount(positions, weights=score.nats, minlength=sums.shape[1])
            sums[1] += np.bincount(positions, minlength=sums.shape[1])

    @property
    def patch(self) -> Floats:
        """Mean bits per symbol at each position in the patch: (P,), nan for positions without symbols."""
        return _means(self._patch)

    @property
    def window(self) -> Floats:
        """Mean bits per symbol at each position in the window: (W,), nan for positions without symbols."""
        return _means(self._window)

    @property
    def plottable(self) -> tuple[Floats, Floats]:
        """`patch` and `window`, with nan also where there are too few symbols for a meaningful mean (`SPARSE`)."""
        return _means(self._patch, SPARSE), _means(self._window, SPARSE)


def _means(sums: Floats, min_share: float = 0.0) -> Floats:
    """Return mean bits. min_share: nan for positions with a smaller share of the fullest position's symbols."""
    nats, counts = sums
    enough = (counts > 0) & (counts >= min_share * counts.max())
    means: Floats = np.divide(nats, counts, out=np.full_like(nats, math.nan), where=enough)
    return means / math.log(2)
