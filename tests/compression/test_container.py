"""A container gives back what was put in, and reports every damage."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megabyte_mm.compression.container import CodingSettings, Container, Entry, pack_block, unpack, unpack_block

SETTINGS = CodingSettings("0123456789abcdef", "01234567", "cpu", "native", None, "2.13.0", "zlib 1.2.13")


def entry(**changes):
    said: dict[str, Any] = {
        "name": "a.txt",
        "size": 12,
        "crc": 7,
        "read_crc": 8,
        "modality": "",
        "condition": 0,
        "recipe": {"kind": "bytes"},
        "lengths": [8, 4],
        "kinds": "ms",
        "sizes": [3, 4],
        "extra": 2,
    }
    return Entry(**(said | changes))


FULL = Container(SETTINGS, [entry(), entry(name="b/ä.txt", extra=0)], [[b"abc", b"defg"]] * 2, [b"hi", b""])


def test_a_container_comes_back_as_it_was():
    found = unpack(FULL.pack())
    assert found.settings == SETTINGS
    assert found == FULL


def test_a_container_of_nothing_is_one_too():
    assert unpack(Container(SETTINGS).pack()).entries == []


def test_every_flipped_bit_and_every_cut_is_reported():
    content = FULL.pack()
    for place in range(len(content)):
        for bit in (1, 128):
            damaged = bytearray(content)
            damaged[place] ^= bit
            with pytest.raises(ValueError, match=r"damaged|version|not a file compressed by megabyte-mm"):
                unpack(bytes(damaged))
        with pytest.raises(ValueError, match=r"damaged|not a file"):
            unpack(content[:place])
    with pytest.raises(ValueError, match="damaged"):
        unpack(content + b"\0")


def test_a_container_of_a_later_version_says_so():
    content = bytearray(FULL.pack())
    content[3] = 9
    with pytest.raises(ValueError, match="version 9"):
        unpack(bytes(content))


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": -1},
        {"size": "12"},
        {"lengths": [8]},
        {"kinds": "mx"},
        {"sizes": [3, 5]},
        {"sizes": [3, 10**9]},
        {"extra": 3},
        {"name": 7},
        {"condition": None},
        {"crc": 1.5},
        {"read_crc": -8},
        {"recipe": []},
        {"recipe": {}},
    ],
    ids=str,
)
def test_an_invalid_entry_is_refused(wrong):
    content = Container(SETTINGS, [entry(**wrong)], [[b"abc", b"defg"]], [b"hi"]).pack()
    with pytest.raises(ValueError, match="the header is invalid"):
        unpack(content)


@given(st.binary(max_size=300), st.integers(1, 20))
def test_a_block_is_kept_in_no_more_than_itself(data, times):
    kind, block = pack_block(data * times)
    assert len(block) <= len(data) * times
    assert unpack_block(kind, block, len(data) * times) == data * times
    with pytest.raises(ValueError, match="the length of a block differs"):
        unpack_block(kind, block, len(data) * times + 1)


@given(st.binary(max_size=120))
def test_no_bytes_are_read_as_a_container_by_chance(data):
    with pytest.raises(ValueError, match="not a file compressed by megabyte-mm"):
        unpack(b"PK" + data)
    with pytest.raises(ValueError, match="damaged"):
        unpack(b"MBZ\1" + data)
