"""What bytes cost, painted over the file."""

import re
from typing import Any

import numpy as np
import pytest

from megabyte_mm.plots.bits import MOST, picture_bits, sound_bits, text_bits


def test_pixels_are_drawn_in_one_scale_for_all_methods():
    pixels = np.zeros((2, 2, 3), np.uint8)
    plain, strided = np.arange(12.0).reshape(2, 2, 3), np.full((2, 2, 3), 2.0)
    figure: Any = picture_bits(pixels, {"plain": plain, "strided": strided})
    picture, first, second, _ = figure.axes
    np.testing.assert_array_equal(picture.images[0].get_array(), pixels)
    np.testing.assert_array_equal(first.images[0].get_array(), plain.sum(axis=2))
    assert first.images[0].get_clim() == second.images[0].get_clim() == (0, 30)
    assert second.get_title() == "strided: 2.000 bits per byte"


def test_a_waveform_has_the_colours_of_its_bits():
    samples = np.repeat(np.array([0, 16384, -16384, 0], np.int16), 200)
    bits = np.repeat([0.0, 8.0, 4.0, 0.0], 200)
    figure: Any = sound_bits(samples, {"plain": bits, "half": bits / 2}, rate=100)
    plain, half, _ = figure.axes
    (heat,) = plain.collections
    assert len(heat.get_segments()) == 400  # stretches of two samples
    np.testing.assert_array_equal(heat.get_array(), np.repeat([0.0, 8.0, 4.0, 0.0], 100))
    assert heat.get_clim() == half.collections[0].get_clim() == (0, 8)
    ((seconds, low), (_, high)) = heat.get_segments()[100]
    assert (seconds, low, high) == (2.0, pytest.approx(0.49), pytest.approx(0.51))
    assert half.get_title("left") == "half: 1.500 bits per sample"


def test_a_character_costs_the_bits_of_all_its_bytes():
    data = np.frombuffer("a<€\n".encode() + b"\xff", np.uint8)
    html = text_bits(data, np.array([0.0, 1.0, 2.0, 3.0, 20.0, 0.5, 0.0]))
    found = re.findall(r'background: (#\w+); color: black" title="([\d.]+) bits">([^<]+)<', html)
    assert [(cost, shown) for _, cost, shown in found] == [
        ("0.00", "a"),
        ("1.00", "&lt;"),
        ("25.00", "€"),
        ("0.50", "↵\n"),
        ("0.00", "\N{REPLACEMENT CHARACTER}"),
    ]
    ground = {shown: colour for colour, _, shown in found}
    assert ground["a"] == ground["\N{REPLACEMENT CHARACTER}"] != ground["&lt;"]
    assert ground["€"] in text_bits(data[:1], np.array([MOST]))  # no redder than that
