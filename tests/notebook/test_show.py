"""Continuations and records side by side for each modality, embedded pages, sampling sliders."""

import base64
import io
import re
from html import unescape
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from data_adapters import AudioAdapter, ByteStream, FileAdapter, ImageAdapter, TextAdapter
from megabyte_mm.checkpoint import Bundle, Modality
from megabyte_mm.generation import CompletedRecord
from megabyte_mm.generation.continuation import UNKNOWN, Continuations
from megabyte_mm.models import MegabyteConfig, StackConfig
from megabyte_mm.notebook import (
    embed_page,
    sampling_sliders,
    show_continuations,
    show_pictures,
    show_players,
    show_records,
    show_waveforms,
)
from megabyte_mm.notebook.show import PREFIX_TAIL

GREY = ImageAdapter(mode="L", size=(2, 2), patch=1)
SOUND = AudioAdapter(rate=8000, channels=2, encoding="pcm16")


def continued(adapter, original, prefix, *samples):
    return Continuations("a", adapter.default_format(), original[:prefix], samples, original)


def test_pictures_are_grey_after_the_prefix_and_the_original_is_last():
    original = np.array([1, 2, 3, 4], np.uint8)
    item = continued(GREY, original, 2, np.array([1, 2, 7, 8], np.uint8))
    figure: Any = show_pictures(GREY, {"T = 1": item})
    prefix, sample, last = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["prefix", "sample 1", "original"]
    np.testing.assert_array_equal(prefix.images[0].get_array(), [[1, 2], [UNKNOWN, UNKNOWN]])
    np.testing.assert_array_equal(sample.images[0].get_array(), [[1, 2], [7, 8]])
    np.testing.assert_array_equal(last.images[0].get_array(), [[1, 2], [3, 4]])
    assert len(show_continuations(GREY, item).axes) == 3


def test_sounds_are_drawn_and_played_up_to_the_length_of_the_continuation():
    samples = np.arange(0, 12000, 1000, dtype="<i2")  # 6 frames
    data = samples.view(np.uint8)
    item = continued(SOUND, data, 8, data[:16])
    figure: Any = show_waveforms(SOUND, item)
    original, sample = figure.axes
    assert (original.get_ylabel(), sample.get_ylabel()) == ("original", "sample 1")
    new = sample.lines[1].get_ydata() * 32768
    np.testing.assert_array_equal(new, [4500, 6500])  # mean of both channels of the third and fourth frame
    html = show_players(SOUND, item).data
    files = [base64.b64decode(content) for content in re.findall(r"data:audio/wav;base64,([^\"]+)", html)]
    first, _ = soundfile.read(io.BytesIO(files[0]), dtype="int16")
    assert len(files) == 2
    np.testing.assert_allclose(first, samples[:8].reshape(4, 2), atol=1)  # not louder and not longer


def test_texts_show_the_end_of_the_prefix_and_the_continuation():
    adapter, original = TextAdapter(), np.frombuffer(b"x" * 500 + b"<b>", np.uint8)
    sample = np.append(original, np.frombuffer(b"&yes", np.uint8))
    html = show_continuations(adapter, continued(adapter, original, 503, sample)).data
    prefix, continuation = re.findall(r"<span[^>]*>([^<]*)</span>", html)
    assert prefix == "x" * (PREFIX_TAIL - 3) + "&lt;b&gt;"
    assert continuation == "&amp;yes"


def test_continuations_of_other_adapters_are_refused():
    adapter, data = FileAdapter(), np.zeros(2, np.uint8)
    with pytest.raises(ValueError, match="continuations of the file adapter cannot be shown"):
        show_continuations(adapter, Continuations("a", {}, data, [data]))


def test_records_show_their_given_parts_once_and_then_what_was_generated():
    def record(pixels, *generated):
        stream = ByteStream(np.array(pixels, np.uint8), GREY.default_format())
        sound = ByteStream(np.zeros(8, np.uint8), SOUND.default_format())
        return CompletedRecord({"text": TextAdapter().stream_of("<red>"), "image": stream, "audio": sound}, generated)

    adapters = {"text": TextAdapter(), "image": GREY, "audio": SOUND}
    modalities = {name: Modality(adapter, False) for name, adapter in adapters.items()}
    stack = StackConfig(dim=8, layers=1, heads=1)
    net = MegabyteConfig(patch_size=4, max_len=8, global_stack=stack, local_stack=stack)
    bundle = Bundle(net.build(), modalities, ("none",), 8)
    behind_text = [record(pixels, "image", "audio") for pixels in ([1, 2, 3, 4], [5, 6, 7, 8])]
    html = show_records(bundle, [behind_text, [record([9, 9, 9, 9], "text")]]).data
    first, second = (re.findall(r"<td[^>]*><b>([^<]*)</b><br>(.*?)</td>", row) for row in html.split("</tr>")[:2])
    assert [name for name, _ in first] == ["given", "sample 1", "sample 2"]
    assert first[0][1] == '<code style="white-space: pre-wrap">&lt;red&gt;</code>'
    assert [name for name, _ in second] == ["given", "sample 1"]
    assert second[1][1] == first[0][1]
    pictures = [base64.b64decode(content) for content in re.findall(r"data:image/png;base64,([^\"]+)", html)]
    shown = [np.asarray(Image.open(io.BytesIO(content))).tolist() for content in pictures]
    assert shown == [[[1, 2], [3, 4]], [[5, 6], [7, 8]], [[9, 9], [9, 9]]]
    assert html.count("<audio") == 3


def test_an_embedded_page_does_not_affect_the_notebook():
    html = embed_page('<style>body {color: red}</style><p title="a">b</p>', height=99).data
    (source,) = re.findall(r'srcdoc="([^"]*)"', html)
    assert unescape(source) == '<style>body {color: red}</style><p title="a">b</p>'
    assert "<style>" not in html
    assert "height: 99px" in html


def test_sliders_sample_only_when_the_button_is_pressed():
    calls = []
    widget: Any = sampling_sliders(lambda temperature, top_p, seed: calls.append((temperature, top_p, seed)), 0.7, 0.9)
    temperature, top_p, seed, button, _ = widget.children
    temperature.value, seed.value = 1.2, 4
    assert not calls
    button.click()
    assert calls == [(1.2, 0.9, 4)]
    assert (temperature.min, top_p.max) == (0.0, 1.0)
