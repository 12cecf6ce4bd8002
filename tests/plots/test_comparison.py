"""Several models on the same files, drawn."""

from typing import Any

import numpy as np

from megabyte_mm.plots.scores import bits_per_byte_bars, file_scatter


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
