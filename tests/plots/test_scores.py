"""Figures of scores: curves by position, and several models on the same files."""

from typing import Any

import numpy as np

from megabyte_mm.plots import bits_per_byte_bars, file_scatter, position_curves
from megabyte_mm.plots.scores import span_means


def test_every_method_has_a_line_by_position_in_patch_and_window():
    curves = {"plain": (np.arange(4.0), np.arange(1000.0)), "strided": (np.array([1, 2, np.nan, np.nan]), np.ones(16))}
    in_patch, in_window = position_curves(curves).axes
    assert [line.get_label() for line in in_patch.lines] == [line.get_label() for line in in_window.lines]
    assert [line.get_label() for line in in_patch.lines] == ["plain", "strided"]
    assert (in_patch.get_xlabel(), in_window.get_xlabel()) == ("position in the patch", "position in the window")
    np.testing.assert_array_equal(in_patch.lines[0].get_ydata(), curves["plain"][0])
    assert [line.is_dashed() for line in in_patch.lines] == [False, True]  # an equal line below stays visible


def test_a_long_window_is_drawn_as_means_of_spans():
    middles, means = span_means(np.arange(10.0), max_points=4)
    assert middles.tolist() == means.tolist() == [1, 4, 7, 9]
    middles, means = span_means(np.array([1.0, np.nan, np.nan, np.nan, 5.0]), max_points=3)
    assert (middles.tolist(), means.tolist()) == ([0, 4], [1, 5])
    assert len(span_means(np.arange(4096.0))[0]) == 128


def test_spans_are_whole_patches_so_that_positions_in_the_patch_cancel_out():
    by_position = np.tile([4.0, 3, 2], 50)
    assert span_means(by_position, 3)[1].tolist() == [3] * 50
    assert span_means(by_position, 3, max_points=20)[1].tolist() == [3] * 17


def test_curves_without_any_score_are_empty():
    values = np.full(5, np.nan)
    assert [points.size for points in span_means(values)] == [0, 0]
    position_curves({"plain": (values, values)})


def test_the_first_model_is_the_bar_on_top():
    figure: Any = bits_per_byte_bars({"a": 1.5, "b": 0.25})
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [1.5, 0.25]
    assert axes.yaxis_inverted()
    assert [text.get_text() for text in axes.texts] == ["1.500", "0.250"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]


def test_each_other_model_is_drawn_against_the_first():
    bits = {"a": np.array([1.0, 2.0]), "b": np.array([0.5, 3.0]), "c": np.array([0.5, 1.0])}
    figure: Any = file_scatter(bits)
    (axes,) = figure.axes
    second, third, diagonal = axes.lines
    assert (second.get_label(), third.get_label()) == ("b: better on 1 of 2", "c: better on 2 of 2")
    np.testing.assert_array_equal(second.get_xdata(), bits["a"])
    np.testing.assert_array_equal(third.get_ydata(), bits["c"])
    assert tuple(diagonal.get_xdata()) == tuple(diagonal.get_ydata()) == axes.get_xlim() == axes.get_ylim()
