"""The figure of the curves."""

import numpy as np
from PIL import Image

from megabyte_mm.plots.scores import position_curves, stretches


def test_every_method_has_a_line_in_both_pictures(tmp_path):
    curves = {"plain": (np.arange(4.0), np.arange(1000.0)), "strided": (np.array([1, 2, np.nan, np.nan]), np.ones(16))}
    figure = position_curves(curves)
    in_patch, in_window = figure.axes
    assert [line.get_label() for line in in_patch.lines] == [line.get_label() for line in in_window.lines]
    assert [line.get_label() for line in in_patch.lines] == ["plain", "strided"]
    assert (in_patch.get_xlabel(), in_window.get_xlabel()) == ("position in the patch", "position in the window")
    np.testing.assert_array_equal(in_patch.lines[0].get_ydata(), curves["plain"][0])
    assert [line.is_dashed() for line in in_patch.lines] == [False, True]  # so that an equal one below shows
    figure.savefig(tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.width > image.height > 100


def test_a_long_window_is_drawn_in_stretches():
    middles, means = stretches(np.arange(10.0), points=4)
    assert middles.tolist() == means.tolist() == [1, 4, 7, 9]
    middles, means = stretches(np.array([1.0, np.nan, np.nan, np.nan, 5.0]), points=3)
    assert (middles.tolist(), means.tolist()) == ([0, 4], [1, 5])
    assert len(stretches(np.arange(4096.0))[0]) == 128


def test_stretches_hold_whole_patches_so_that_places_in_a_patch_cancel_out():
    by_place = np.tile([4.0, 3, 2], 50)
    assert stretches(by_place, 3)[1].tolist() == [3] * 50
    assert stretches(by_place, 3, points=20)[1].tolist() == [3] * 17


def test_without_any_figure_nothing_is_drawn():
    values = np.full(5, np.nan)
    assert [part.size for part in stretches(values)] == [0, 0]
    position_curves({"plain": (values, values)})
