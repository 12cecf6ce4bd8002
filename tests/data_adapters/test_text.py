import bz2
import gzip
import io
import lzma
import sqlite3
import zipfile
from contextlib import closing

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from data_adapters import ByteStream, FileAdapter, MediaError, TextAdapter

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


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "words")
    return file.getvalue()


def database():
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("create table texts (words)")
        return connection.serialize()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (gzip.compress(b"words", mtime=0), "compressed by gzip"),
        (bz2.compress(b"words"), "compressed by bzip2"),
        (lzma.compress(b"words"), "compressed by xz"),
        (zstandard.compress(b"words"), "compressed by zstd"),
        (zipped(), "a ZIP archive"),
        (b"PAR1\x15\n\x00 columns PAR1", "a Parquet table"),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
        (database(), "an SQLite database"),
    ],
)
def test_packed_files_are_refused_with_what_to_do(tmp_path, content, kind):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    advice = "unpack it first, or read its bytes with the file adapter"
    with pytest.raises(MediaError) as caught:
        ADAPTER.read(path)
    assert str(caught.value) == f"{path}: is {kind}, not text: {advice}"
    assert FileAdapter().read(path).data.tobytes() == content


@pytest.mark.parametrize(
    "content", [b"PAR1 is a word", b"%PDF- in a comment", b"PK and BZh9", b"SQLite format 3 is old"]
)
def test_texts_that_begin_like_packed_files_are_read(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    assert ADAPTER.read(tmp_path / "a.txt").data.tobytes() == content


@pytest.mark.parametrize("length", range(12))
def test_boundaries_are_between_characters(length):
    text = "aé€😀!"  # 1, 2, 3, 4 and 1 bytes
    boundary = ADAPTER.last_boundary(as_bytes(text.encode()), length)
    assert boundary == [0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11][length]


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=12), st.integers(0, 60))
def test_the_last_boundary_before_the_length_is_returned(text, length):
    data = text.encode("utf-8", errors="ignore")
    boundaries = {len(text[:i].encode("utf-8", errors="ignore")) for i in range(len(text) + 1)}
    assert ADAPTER.last_boundary(as_bytes(data), length) == max(b for b in boundaries if b <= length)


def test_a_truncated_last_character_is_left_out():
    assert ADAPTER.last_boundary(as_bytes("a€".encode()[:3]), 3) == 1


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=12), st.integers(0, 14))
def test_a_boundary_in_arbitrary_bytes_is_near_the_length(data, length):
    limit = min(length, len(data))
    assert max(0, limit - 3) <= ADAPTER.last_boundary(as_bytes(data), length) <= limit


@pytest.mark.parametrize(
    ("data", "length"), [(b"\x80" * 8, 5), (b"caf\xe9 au", 4), (b"\xc0\x80\x80", 1), (b"a\x80\x80", 2)]
)
def test_in_invalid_utf8_the_length_itself_is_a_boundary(data, length):
    assert ADAPTER.last_boundary(as_bytes(data), length) == length


def test_bytes_are_decoded_with_replacement_characters():
    assert ADAPTER.decode(as_bytes("né".encode()[:2] + b"\xff!")) == "n\ufffd\ufffd!"


def test_a_prefix_is_written_byte_for_byte(tmp_path):
    ADAPTER.write(ByteStream(as_bytes(b"a\xe2\x82"), {"modality": "text"}), tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_bytes() == b"a\xe2\x82"
