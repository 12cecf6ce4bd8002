import codecs

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_adapters import ByteStream, TextAdapter

ADAPTER = TextAdapter()


def as_bytes(data):
    return np.frombuffer(data, np.uint8)


@settings(deadline=None, max_examples=30)
@given(st.one_of(st.binary(max_size=50), st.text(max_size=20).map(lambda text: text.encode("utf-8"))))
def test_any_bytes_round_trip(folder, content):
    (folder / "in.txt").write_bytes(content)
    stream = ADAPTER.read(folder / "in.txt")
    assert (stream.data.tobytes(), stream.notes) == (content, ())
    ADAPTER.write(stream, folder / "out.txt")
    assert (folder / "out.txt").read_bytes() == content


def test_line_ends_marks_and_nuls_survive(tmp_path):
    content = codecs.BOM_UTF8 + b"one\r\ntwo\rthree\n\0\xff\xfe"
    (tmp_path / "in.txt").write_bytes(content)
    assert ADAPTER.read(tmp_path / "in.txt").data.tobytes() == content


@pytest.mark.parametrize("length", range(12))
def test_a_cut_never_splits_a_character(length):
    text = "aé€😀!"  # 1, 2, 3, 4 and 1 bytes
    cut = ADAPTER.last_boundary(as_bytes(text.encode()), length)
    assert cut == [0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11][length]


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=12), st.integers(0, 60))
def test_a_cut_is_the_last_boundary_that_fits(text, length):
    data = text.encode("utf-8", errors="ignore")
    boundaries = {len(text[:i].encode("utf-8", errors="ignore")) for i in range(len(text) + 1)}
    assert ADAPTER.last_boundary(as_bytes(data), length) == max(b for b in boundaries if b <= length)


def test_a_character_that_the_end_cuts_short_is_left_out():
    assert ADAPTER.last_boundary(as_bytes("a€".encode()[:3]), 3) == 1


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=12), st.integers(0, 14))
def test_a_cut_of_bytes_that_are_no_text_stays_near(data, length):
    limit = min(length, len(data))
    assert max(0, limit - 3) <= ADAPTER.last_boundary(as_bytes(data), length) <= limit


@pytest.mark.parametrize(
    ("data", "length"), [(b"\x80" * 8, 5), (b"caf\xe9 au", 4), (b"\xc0\x80\x80", 1), (b"a\x80\x80", 2)]
)
def test_invalid_bytes_are_cut_where_asked(data, length):
    assert ADAPTER.last_boundary(as_bytes(data), length) == length


def test_text_is_shown_with_replacement_characters():
    assert ADAPTER.decode(as_bytes("né".encode()[:2] + b"\xff!")) == "n\ufffd\ufffd!"


def test_a_prefix_is_written_byte_for_byte(tmp_path):
    ADAPTER.write(ByteStream(as_bytes(b"a\xe2\x82"), {"modality": "text"}), tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_bytes() == b"a\xe2\x82"
