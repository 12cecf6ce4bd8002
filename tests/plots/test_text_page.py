"""Characters with their bits, and the page of HTML that shows them."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megabyte_mm.plots.heatmaps.text_page import characters, text_page


class Shown(HTMLParser):
    """What the elements of the text hold: their characters, bits and colours."""

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


def test_a_characters_bits_are_those_of_its_bytes():
    found = characters("aé中😀".encode() + b"\xff\xe4\xb8z", np.arange(14.0))
    assert found.text == "aé中😀\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}z"
    assert found.bits.tolist() == [0, 1 + 2, 3 + 4 + 5, 6 + 7 + 8 + 9, 10, 11, 12, 13]
    assert found.sizes.tolist() == [1, 2, 3, 4, 1, 1, 1, 1]


@given(st.one_of(st.binary(max_size=60), st.text(max_size=30).map(str.encode)))
@settings(max_examples=40)
def test_no_bit_and_no_byte_is_lost_whatever_the_bytes_are(data):
    bits = np.arange(1.0, len(data) + 1)
    found = characters(data, bits)
    assert (found.bits.sum(), found.sizes.sum()) == (bits.sum(), len(data))
    assert len(found.text) == len(found.bits) == len(found.sizes)
    valid = data.decode(errors="ignore")
    assert not set(valid) - set(found.text)


def test_the_page_holds_each_character_once_in_order_and_escaped():
    text = "<script>alert('a & b')</script>\n\n\t&amp; é中😀\n" * 80  # several blocks
    bits = np.random.default_rng(0).uniform(0, 12, len(text.encode()))
    page = text_page(text.encode(), bits, "<script>.txt", end_bits=3.0)
    shown = Shown(page)
    assert shown.text == text
    assert "script" not in shown.tags
    assert page.count("<div>") == page.count("</div>") > 1
    np.testing.assert_allclose(shown.bits, characters(text.encode(), bits).bits, atol=0.0501)
    assert f"{(bits.sum() + 3) / len(bits):.3f} bits per byte" in page
    assert "END costs 3.0 bits" in page
    assert not re.search(r"https?:|src=|href=|url\(|@import", page)  # it needs nothing from elsewhere


def test_neighbours_of_one_colour_share_an_element_and_keep_their_own_bits():
    shown = Shown(text_page(b"abcd", np.array([1.0, 1.1, 6, 40])))
    assert shown.levels == [4, 24, 31]
    assert shown.bits == [1.0, 1.1, 6, 40]


def test_control_characters_are_shown_as_their_pictures():
    assert Shown(text_page(b"\x00\r\n\x1b\x7f", np.ones(5))).text == "␀␍\n␛␡"


@pytest.mark.parametrize(("data", "told"), [(b"", "no bytes"), (b"x", "1.000 bits per byte")])
def test_the_smallest_texts_have_a_page(data, told):
    page = text_page(data, np.ones(len(data)))
    assert told in page
    assert Shown(page).text == data.decode()
