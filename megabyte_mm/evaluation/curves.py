"""Mean bits by position in the patch and in the window: figures 4 and 5 of Yu et al. (2023)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from megabyte_mm.evaluation.scoring import Score

Floats = NDArray[np.float64]

FEW = 1 / 20
"""A place that holds less than this share of the fullest place's symbols is not drawn. Strided scoring leaves to the
second half of a patch the first patch of each window alone, sliding to the first half of a window that of a file."""


class Curves:
    """Sums over the symbols of any number of scored streams, by where the symbols stood when they were predicted."""

    def __init__(self, patch_size: int, window: int) -> None:
        self._patch = np.zeros((2, patch_size))
        self._window = np.zeros((2, window))

    def add(self, score: Score) -> None:
        """Count the symbols of one more stream."""
        for sums, places in ((self._patch, score.patch_position), (self._window, score.window_position)):
            sums[0] += np.bincount(places, weights=score.nats, minlength=sums.shape[1])
            sums[1] += np.bincount(places, minlength=sums.shape[1])

    @property
    def patch(self) -> Floats:
        """Mean bits per symbol at each position in the patch: (P,), nan where no symbol stood."""
        return _means(self._patch)

    @property
    def window(self) -> Floats:
        """The same at each position in the window: (W,)."""
        return _means(self._window)

    @property
    def plottable(self) -> tuple[Floats, Floats]:
        """Both, without the places where so few symbols stood that their mean is noise: nan there too."""
        return _means(self._patch, FEW), _means(self._window, FEW)


def _means(sums: Floats, least: float = 0.0) -> Floats:
    """least: the share of the fullest place's symbols that a place needs."""
    nats, counts = sums
    enough = (counts > 0) & (counts >= least * counts.max())
    means: Floats = np.divide(nats, counts, out=np.full_like(nats, math.nan), where=enough)
    return means / math.log(2)
