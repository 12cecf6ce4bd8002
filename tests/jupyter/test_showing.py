"""Continuations side by side, and what bytes cost, for each modality."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from data_adapters import AudioAdapter, ByteStream, FileAdapter, ImageAdapter, TextAdapter
from megabyte_mm.evaluation.scoring import Score
from megabyte_mm.inference import ScoredFile
from megabyte_mm.jupyter.showing import TAIL, players, show, show_bits, show_pictures, show_waveforms
from megabyte_mm.writing import UNKNOWN, Continuations

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


def scored(adapter, data, nats):
    places = np.zeros(len(nats), np.int32)
    return ScoredFile(Path("a"), ByteStream(data, adapter.default_format()), Score(nats, places, places, len(data)))


def test_bits_of_a_picture_stand_at_its_pixels_and_those_of_a_sound_at_its_frames():
    patched = ImageAdapter(mode="L", size=(4, 2), patch=2)
    nats = np.log(2) * np.arange(9, dtype=np.float32)  # the last is that of an END
    figure: Any = show_bits(patched, {"plain": scored(patched, np.zeros(8, np.uint8), nats)})
    np.testing.assert_allclose(figure.axes[1].images[0].get_array(), [[0, 1, 4, 5], [2, 3, 6, 7]], rtol=1e-6)
    figure = show_bits(SOUND, {"plain": scored(SOUND, np.zeros(8, np.uint8), nats)})
    np.testing.assert_allclose(figure.axes[0].collections[0].get_array(), [6, 22], rtol=1e-6)
    text = TextAdapter()
    assert 'title="1.00 bits">b<' in show_bits(text, {"plain": scored(text, np.frombuffer(b"ab", np.uint8), nats)}).data


def test_bytes_of_any_file_cannot_be_shown():
    adapter, data = FileAdapter(), np.zeros(2, np.uint8)
    with pytest.raises(ValueError, match="no way to show bytes of file"):
        show(adapter, Continuations("a", {}, data, [data]))
    with pytest.raises(ValueError, match="no way to show bytes of file"):
        show_bits(adapter, {"plain": scored(adapter, data, np.zeros(2, np.float32))})
