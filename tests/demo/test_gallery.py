"""The page: everything inline, everything escaped."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
from gallery import Continuation, Section, render_page, write_page
from PIL import Image

from megabyte_mm.plots.html_elements import BARS


class Page(HTMLParser):
    """Start tags and their attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (4, 4), "red").save(tmp_path / 'a"<b>.png')
    return tmp_path / 'a"<b>.png'


@pytest.fixture
def sound(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(800, np.int16), 8000, subtype="PCM_U8")
    return tmp_path / "a.wav"


def section(kind, fresh=(), continuations=(), **more):
    return Section(kind, "Title", "About", ("a --b <c>",), tuple(fresh), tuple(continuations), keep=0.5, **more)


def test_media_are_inline_and_nothing_points_outside(tmp_path, picture, sound):
    sections = [
        section("image", [picture], [Continuation(picture, (picture, picture))]),
        section("audio", [sound], [Continuation(sound, (sound,))]),
    ]
    write_page(tmp_path / "new/index.html", sections, seconds=1.0)
    text = (tmp_path / "new/index.html").read_text(encoding="utf-8")
    loads = [attributes[name] for _, attributes in Page(text).tags for name in ("src", "href") if name in attributes]
    expected = {path: base64.b64encode(path.read_bytes()).decode() for path in (picture, sound)}
    assert (
        loads == [f"data:image/png;base64,{expected[picture]}"] * 5 + [f"data:audio/wav;base64,{expected[sound]}"] * 3
    )
    assert not re.search(r"https?://|url\((?!#)|@import|<script|<link", text)


def test_what_is_made_of_a_given_part_stands_between_it_and_the_original(tmp_path, picture, sound):
    (tmp_path / "caption.txt").write_text("a <b>")
    (tmp_path / "notes.txt").write_text("c4 e4")
    rows = [
        section("captions", [], [Continuation(picture, (picture, picture), tmp_path / "caption.txt")]),
        section("notes", [], [Continuation(tmp_path / "notes.txt", (tmp_path / "notes.txt",), sound)]),
    ]
    text = render_page(rows, 1.0)
    captions = ["given", "continuation", "continuation", "original", "given", "continuation", "original"]
    assert re.findall(r"<figcaption>(\w+)", text) == captions
    assert '<pre><span class="prefix">a &lt;b&gt;</span>' in text
    assert "--prefix-share:0%" in text
    assert text.count("<img ") == 3
    assert text.count('<span class="generated">c4 e4</span>') == 2
    assert "Samples without a prefix" not in text


def test_a_continued_text_is_cut_where_its_prefix_ends_and_escaped(tmp_path):
    (tmp_path / "a.py").write_bytes(b"if a < b:\n    pass #")
    (tmp_path / "a-000.py").write_bytes(b"if a < b:\n<script>&\xff\x00" + b"x" * 100)
    text = render_page([section("text", [], [Continuation(tmp_path / "a.py", (tmp_path / "a-000.py",))])], 1.0)
    assert '<span class="prefix">if a &lt; b:\n</span><span class="generated">&lt;script&gt;&amp;\ufffd\ufffd' in text
    assert '<span class="generated">    pass #</span>' in text
    assert "<script" not in text


def test_a_picture_says_how_much_of_it_was_given(picture):
    assert "--prefix-share:50%" in render_page([section("image", [], [Continuation(picture, (picture,))])], 1.0)


def test_a_longer_continuation_of_sound_is_marked_given_up_to_its_prefix_only(tmp_path, sound):
    soundfile.write(tmp_path / "a-000.wav", np.zeros(1600, np.int16), 8000, subtype="PCM_U8")
    text = render_page([section("audio", [], [Continuation(sound, (tmp_path / "a-000.wav",))])], 1.0)
    waves = re.findall(r'<svg class="wave".*?</svg>', text)
    assert [wave.count('class="prefix"') for wave in waves] == [BARS // 4, BARS // 2]


def test_facts_scores_and_commands_are_shown(picture):
    shown = section("image", [picture], scores=(("this model", 2.0), ("PNG", 4.0)), facts=(("parameters", "1,234"),))
    text = render_page([shown], seconds=90)
    assert "1.5 minutes" in text
    assert "<dt>parameters</dt><dd>1,234</dd>" in text
    assert re.search(r"this model</th><td>2.000</td><td class=\"bar\"><i style=\"width:50.0%\">", text)
    assert "a --b &lt;c&gt;" in text


def test_each_section_has_its_curves_in_the_colours_of_the_page(picture):
    sections = [section(kind, train=((1, 3.0), (2, 2.5)), val=((2, 2.0),)) for kind in ("image", "text")]
    text = render_page(sections, 1.0)
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert text.count('<svg class="plot"') == 2
    assert "var(--generated, #" in text
