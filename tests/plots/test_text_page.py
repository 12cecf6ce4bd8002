"""Characters with their bits, and the HTML page of them."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megabyte_mm.plots import text_page
from megabyte_mm.plots.heatmaps.text import split_characters


class ParsedPage(HTMLParser):
    """Characters, bits and colours of the elements of the text."""

    def __init__(self, page):
        super().__init__()
        self.text, self.bits, self.levels, self.tags, self._inside = "", [], [], set(), False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self._inside = tag == "i"
        if tag == "i":
            values = dict(attrs)
            self.bits += [float(bits) for bits in values["title"].split()]
            self.levels.append(int(values["class"].split()[0].removeprefix("q")))

    def handle_endtag(self, tag):
        self._inside = False

    def handle_data(self, data):
        self.text += data if self._inside else ""


def test_the_bits_of_a_character_are_the_sum_over_its_bytes():
    split = split_characters("aé中😀".encode() + b"\xff\xe4\xb8z", np.arange(14.0))
    assert split.text == "aé中😀\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}z"
    assert split.bits.tolist() == [0, 1 + 2, 3 + 4 + 5, 6 + 7 + 8 + 9, 10, 11, 12, 13]
    assert split.sizes.tolist() == [1, 2, 3, 4, 1, 1, 1, 1]


@given(st.one_of(st.binary(max_size=60), st.text(max_size=30).map(str.encode)))
@settings(max_examples=40)
def test_bits_and_sizes_add_up_for_any_bytes(data):
    bits = np.arange(1.0, len(data) + 1)
    split = split_characters(data, bits)
    assert (split.bits.sum(), split.sizes.sum()) == (bits.sum(), len(data))
    assert len(split.text) == len(split.bits) == len(split.sizes)
    valid = data.decode(errors="ignore")
    assert not set(valid) - set(split.text)


def test_the_page_has_each_character_once_in_order_and_escaped():
    text = "<script>alert('a & b')</script>\n\n\t&amp; é中😀\n" * 80  # several blocks
    bits = np.random.default_rng(0).uniform(0, 12, len(text.encode()))
    page = text_page(text.encode(), bits, "<script>.txt", end_bits=3.0)
    shown = ParsedPage(page)
    assert shown.text == text
    assert "script" not in shown.tags
    assert page.count("<div>") == page.count("</div>") > 1
    np.testing.assert_allclose(shown.bits, split_characters(text.encode(), bits).bits, atol=0.0501)
    assert f"{(bits.sum() + 3) / len(bits):.3f} bits per byte" in page
    assert "END costs 3.0 bits" in page
    assert not re.search(r"https?:|src=|href=|url\(|@import", page)  # self-contained


def test_neighbours_of_one_colour_share_an_element_and_have_their_own_bits():
    shown = ParsedPage(text_page(b"abcd", np.array([1.0, 1.1, 6, 40])))
    assert shown.levels == [4, 24, 31]
    assert shown.bits == [1.0, 1.1, 6, 40]


def test_control_characters_are_shown_as_symbols():
    assert ParsedPage(text_page(b"\x00\r\n\x1b\x7f", np.ones(5))).text == "␀␍\n␛␡"


@pytest.mark.parametrize(("data", "summary"), [(b"", "no bytes"), (b"x", "1.000 bits per byte")])
def test_the_smallest_texts_have_a_page(data, summary):
    page = text_page(data, np.ones(len(data)))
    assert summary in page
    assert ParsedPage(page).text == data.decode()
