"""Figures of sound encodings."""

from typing import Any

import numpy as np

from megabyte_mm.plots import coding_errors, coding_levels, sound_bytes

SAMPLES = np.array([0, 256, -1, 515], np.int16)


def test_two_bytes_a_sample_are_two_lines_low_byte_first():
    streams = {"pcm16": SAMPLES.astype("<i2").view(np.uint8), "pcm8": np.array([128, 129, 128, 130], np.uint8)}
    figure: Any = sound_bytes(SAMPLES, streams, rate=8000)
    wave, two, one = figure.axes
    np.testing.assert_array_equal(wave.lines[0].get_ydata(), SAMPLES / 32768)
    np.testing.assert_array_equal(wave.lines[0].get_xdata(), [0, 0.125, 0.25, 0.375])
    low, high = two.lines
    assert (low.get_label(), low.get_ydata().tolist()) == ("low byte", [0, 0, 255, 3])
    assert (high.get_label(), high.get_ydata().tolist()) == ("high byte", [0, 1, 255, 2])
    assert [line.get_ydata().tolist() for line in one.lines] == [[128, 129, 128, 130]]


def test_levels_are_drawn_with_their_distances():
    even = (np.arange(256) * 256 - 32768).astype(np.int16)
    figure: Any = coding_levels({"even": even})
    curve, steps = figure.axes
    np.testing.assert_array_equal(curve.lines[0].get_ydata(), even / 32768)
    assert set(steps.lines[0].get_ydata()) == {256 / 32768}


def test_the_error_of_an_encoding_is_decoded_minus_samples():
    decoded = {"exact": SAMPLES, "off": np.array([0, 256, 0, 512], np.int16)}
    figure: Any = coding_errors(SAMPLES, decoded, rate=8000)
    _, exact, off = figure.axes
    assert not exact.lines[0].get_ydata().any()
    assert off.lines[0].get_ydata().tolist() == [0, 0, 1, -3]
    assert off.get_title("left") == "off: 1.0 steps of 65,536 off on average"
