"""Figures of continuations side by side."""

from typing import Any

import numpy as np

from megabyte_mm.plots import picture_rows, waveforms


def test_pictures_are_drawn_in_rows_under_their_titles():
    grey, colour = np.full((2, 4, 1), 9, np.uint8), np.full((2, 4, 3), 200, np.uint8)
    figure: Any = picture_rows({"low": [grey, colour], "high": [colour, grey]}, ["prefix", "sample"], inches=1.0)
    first, second, third, last = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["prefix", "sample", "", ""]
    assert (first.get_ylabel(), third.get_ylabel()) == ("low", "high")
    np.testing.assert_array_equal(first.images[0].get_array(), grey[..., 0])
    np.testing.assert_array_equal(second.images[0].get_array(), colour)
    assert last.images[0].get_clim() == (0, 255)  # not the range of the picture
    assert figure.get_figwidth() > figure.get_figheight()


def test_a_sound_is_grey_up_to_the_end_of_the_prefix():
    sounds = {"original": np.arange(8, dtype=np.int16), "sample": np.arange(6, dtype=np.int16)}
    figure: Any = waveforms(sounds, rate=4, prefix_seconds=1.0)
    assert [axes.get_ylabel() for axes in figure.axes] == ["original", "sample"]
    prefix, continuation, end = figure.axes[1].lines
    np.testing.assert_array_equal(prefix.get_ydata() * 32768, [0, 1, 2, 3])
    np.testing.assert_array_equal(continuation.get_ydata() * 32768, [4, 5])
    assert continuation.get_xdata()[0] == 1.0
    assert end.get_xdata() == [1.0, 1.0]
