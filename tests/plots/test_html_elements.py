"""Files as HTML elements; none of their content becomes markup."""

import base64
import io
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile

from megabyte_mm.plots.html_elements import BARS, MAX_PREFIX, MAX_TEXT, Budget, element, waveform

ROOM = 10**6


def sound():
    file = io.BytesIO()
    soundfile.write(file, np.zeros(800, np.int16), 8000, format="WAV")
    return file.getvalue()


def test_a_file_is_shown_by_its_suffix():
    budget = Budget(ROOM, ROOM)
    assert element(b"png", ".PNG", 'a"<b>', budget) == (
        f'<img src="data:image/png;base64,{base64.b64encode(b"png").decode()}" alt="a&quot;&lt;b&gt;">'
    )
    player = element(sound(), ".wav", "a", budget)
    assert 'src="data:audio/wav;base64,' in player
    assert "0.1 seconds" in player
    assert (
        element(b"\x00\xff" * 9, "", "a", budget)
        == '<pre class="bytes" tabindex="0">' + " ".join(["00", "ff"] * 9) + "</pre>"
    )


@pytest.mark.parametrize("suffix", [".txt", ".html", ".svg", ".js", ""])
def test_markup_in_a_file_is_text(suffix):
    markup = element(b"<script>alert(1)</script>&\x01", suffix, "a", Budget(ROOM, ROOM))
    assert "<script" not in markup
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;\ufffd" in markup


def test_a_sound_that_cannot_be_read_is_named():
    assert "&lt;a&gt; cannot be read as sound" in element(b"RIFF", ".wav", "<a>", Budget(ROOM, ROOM))


def test_the_end_of_the_prefix_stands_before_the_generated_text():
    markup = element(
        b"<" * (MAX_PREFIX + 1) + b">>" + b"x" * MAX_TEXT, ".txt", "a", Budget(ROOM, ROOM), prefix_length=MAX_PREFIX + 1
    )
    assert f'<span class="prefix">… {"&lt;" * MAX_PREFIX}</span><span class="generated">&gt;&gt;x' in markup
    assert "2 more bytes" in markup


def test_files_beyond_the_budget_are_left_out_and_counted():
    budget = Budget(limit=100, each=60)
    sizes = [len(uri.partition(",")[2]) if (uri := budget.data_uri(bytes(n), "a/b")) else 0 for n in (45, 46, 33, 1)]
    assert sizes == [60, 0, 0, 4]
    assert (budget.left, budget.refused) == (36, 2)
    assert element(bytes(3_000_000), ".png", "a", budget) == (
        '<p class="none">3.0 MB, left out to keep this page small.</p>'
    )


def test_a_waveform_may_be_shorter_than_its_bars():
    ElementTree.fromstring(waveform(np.ones(3, np.float32), prefix_share=0.5))
    assert waveform(np.ones(BARS, np.float32), prefix_share=0.5).count('class="prefix"') == BARS // 2
