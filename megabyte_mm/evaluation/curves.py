"""Mean bits by position in the patch and in the window: figures 4 and 5 of Yu et al. (2023)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from megabyte_mm.evaluation.scoring import Score

Floats = NDArray[np.float64]


class Curves:
    """Sums over the symbols of any number of scored streams, by where the symbols stood when they were predicted."""

    def __init__(self, patch_size: int, window: int) -> None:
        self._patch = np.zeros((2, patch_size))
        self._window = np.zeros((2, window))

    def add(self, score: Score) -> None:
        """Count the symbols of one more stream."""
        for sums, places in ((self._patch, score.patch_place), (self._window, score.window_place)):
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


def _means(sums: Floats) -> Floats:
    nats, counts = sums
    means: Floats = np.divide(nats, counts, out=np.full_like(nats, math.nan), where=counts > 0)
    return means / math.log(2)
