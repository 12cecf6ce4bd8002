"""Mean bits by position."""

import math

import numpy as np
import pytest

from megabyte_mm.evaluation.curves import Curves
from megabyte_mm.evaluation.scoring import Score, score_streams
from tests.evaluation.conftest import stream


def test_means_are_over_all_symbols_of_all_streams():
    curves = Curves(patch_size=2, window=4)
    bit = math.log(2)
    curves.add(
        Score(np.array([1, 2, 3], np.float32) * bit, np.array([0, 1, 0], np.int32), np.array([0, 1, 2], np.int32), 2)
    )
    curves.add(Score(np.array([5], np.float32) * bit, np.array([0], np.int32), np.array([0], np.int32), 1))
    np.testing.assert_allclose(curves.patch, [3, 2])
    np.testing.assert_allclose(curves.window, [3, 2, 3, math.nan])


@pytest.mark.parametrize("method", ["plain", "sliding+strided"])
def test_the_curves_hold_all_bits(model, method):
    scores = list(score_streams(model, [(stream(n), 0) for n in (40, 0, 7)], 16, method=method))
    curves = Curves(4, 16)
    for score in scores:
        curves.add(score)
    every = np.concatenate([score.nats for score in scores]) / math.log(2)
    counts = np.bincount(np.concatenate([score.patch_position for score in scores]), minlength=4)
    assert np.nansum(curves.patch * counts) == pytest.approx(every.sum(), rel=1e-5)
    in_window = np.bincount(np.concatenate([score.window_position for score in scores]), minlength=16)
    assert np.nansum(curves.window * in_window) == pytest.approx(every.sum(), rel=1e-5)


def test_positions_with_few_symbols_are_not_plottable():
    curves = Curves(patch_size=2, window=4)
    nats, patch, window = np.ones(100, np.float32), np.zeros(100, np.int32), np.full(100, 3, np.int32)
    patch[:4], window[:5] = 1, 0
    curves.add(Score(nats, patch, window, 100))
    drawn_patch, drawn_window = curves.plottable
    assert np.isnan(drawn_patch).tolist() == [False, True]
    assert np.isnan(drawn_window).tolist() == [False, True, True, False]
    assert not np.isnan(curves.patch).any()
