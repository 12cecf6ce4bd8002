"""Continuations side by side."""

from typing import Any

import numpy as np

from megabyte_mm.plots.continuations import picture_rows, waveforms


def test_pictures_stand_in_rows_under_their_titles():
    grey, colour = np.full((2, 4, 1), 9, np.uint8), np.full((2, 4, 3), 200, np.uint8)
    figure: Any = picture_rows({"low": [grey, colour], "high": [colour, grey]}, ["given", "drawn"], inches=1.0)
    first, second, third, last = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["given", "drawn", "", ""]
    assert (first.get_ylabel(), third.get_ylabel()) == ("low", "high")
    np.testing.assert_array_equal(first.images[0].get_array(), grey[..., 0])
    np.testing.assert_array_equal(second.images[0].get_array(), colour)
    assert last.images[0].get_clim() == (0, 255)  # and not stretched to what the picture holds
    assert figure.get_figwidth() > figure.get_figheight()


def test_a_sound_is_grey_up_to_where_the_given_part_ends():
    sounds = {"original": np.arange(8, dtype=np.int16), "drawn": np.arange(6, dtype=np.int16)}
    figure: Any = waveforms(sounds, rate=4, given=1.0)
    assert [axes.get_ylabel() for axes in figure.axes] == ["original", "drawn"]
    given, drawn, end = figure.axes[1].lines
    np.testing.assert_array_equal(given.get_ydata() * 32768, [0, 1, 2, 3])
    np.testing.assert_array_equal(drawn.get_ydata() * 32768, [4, 5])
    assert drawn.get_xdata()[0] == 1.0
    assert end.get_xdata() == [1.0, 1.0]
