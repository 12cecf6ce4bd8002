"""Continuations side by side, for each modality."""

import base64
import io
import re
from html import unescape
from typing import Any

import numpy as np
import pytest
import soundfile

from data_adapters import AudioAdapter, FileAdapter, ImageAdapter, TextAdapter
from megabyte_mm.generation.continuation import UNKNOWN, Continuations
from megabyte_mm.notebook.show import TAIL, framed, players, show, show_pictures, show_waveforms

GREY = ImageAdapter(mode="L", size=(2, 2), patch=1)
SOUND = AudioAdapter(rate=8000, channels=2, encoding="pcm16")


def continued(adapter, original, kept, *drawn):
    return Continuations("a", adapter.default_format(), original[:kept], drawn, original)


def test_pictures_have_the_unknown_part_grey_and_the_original_last():
    original = np.array([1, 2, 3, 4], np.uint8)
    made = continued(GREY, original, 2, np.array([1, 2, 7, 8], np.uint8))
    figure: Any = show_pictures(GREY, {"T = 1": made})
    given, drawn, last = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["given", "drawn 1", "original"]
    np.testing.assert_array_equal(given.images[0].get_array(), [[1, 2], [UNKNOWN, UNKNOWN]])
    np.testing.assert_array_equal(drawn.images[0].get_array(), [[1, 2], [7, 8]])
    np.testing.assert_array_equal(last.images[0].get_array(), [[1, 2], [3, 4]])
    assert len(show(GREY, made).axes) == 3


def test_sounds_are_drawn_and_played_as_long_as_the_continuation():
    samples = np.arange(0, 12000, 1000, dtype="<i2")  # 6 frames
    data = samples.view(np.uint8)
    made = continued(SOUND, data, 8, data[:16])
    figure: Any = show_waveforms(SOUND, made)
    original, drawn = figure.axes
    assert (original.get_ylabel(), drawn.get_ylabel()) == ("original", "drawn 1")
    new = drawn.lines[1].get_ydata() * 32768
    np.testing.assert_array_equal(new, [4500, 6500])  # the third and fourth frame, the mean of both channels
    html = players(SOUND, made).data
    heard = [base64.b64decode(part) for part in re.findall(r"data:audio/wav;base64,([^\"]+)", html)]
    first, _ = soundfile.read(io.BytesIO(heard[0]), dtype="int16")
    assert len(heard) == 2
    np.testing.assert_allclose(first, samples[:8].reshape(4, 2), atol=1)  # neither louder nor longer


def test_of_a_text_the_end_of_the_prefix_is_shown_and_what_was_drawn():
    adapter, original = TextAdapter(), np.frombuffer(b"x" * 500 + b"<b>", np.uint8)
    html = show(adapter, continued(adapter, original, 503, np.append(original, np.frombuffer(b"&yes", np.uint8)))).data
    given, drawn = re.findall(r"<span[^>]*>([^<]*)</span>", html)
    assert given == "x" * (TAIL - 3) + "&lt;b&gt;"
    assert drawn == "&amp;yes"


def test_bytes_of_any_file_cannot_be_shown():
    adapter, data = FileAdapter(), np.zeros(2, np.uint8)
    with pytest.raises(ValueError, match="no way to show bytes of file"):
        show(adapter, Continuations("a", {}, data, [data]))


def test_a_page_keeps_its_styles_to_itself():
    html = framed('<style>body {color: red}</style><p title="a">b</p>', height=99).data
    (source,) = re.findall(r'srcdoc="([^"]*)"', html)
    assert unescape(source) == '<style>body {color: red}</style><p title="a">b</p>'
    assert "<style>" not in html
    assert "height: 99px" in html
