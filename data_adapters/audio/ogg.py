"""Pages of Ogg files: the streams that follow each other, and the end of each."""

from __future__ import annotations

import zlib

from data_adapters.audio.content import Content

_HEADER = 27
_FIRST, _LAST = 2, 4
_CHECKSUM = slice(22, 26)
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def split(content: Content) -> tuple[list[Content], bool]:
    """Return the streams of a chained Ogg file, and whether other data follows the last one.

    Raises ValueError for a file with a missing end, for a damaged page, by its checksum too, and for streams that are
    interleaved (video).
    """
    starts: list[int] = []
    at, is_first, is_last = 0, False, True
    while (page := content[at : at + _HEADER])[:4] == b"OggS":
        size = _page_size(content, at, page)
        if at + size > len(content) or len(page) < _HEADER:
            raise ValueError("is truncated: its last Ogg page is incomplete")
        flags = page[5]
        if flags & _FIRST and is_first:
            raise ValueError("holds several Ogg streams side by side; extract its sound as WAV first")
        if flags & _FIRST and not is_last:
            raise ValueError(f"is truncated: the Ogg stream before byte {at} has no end")
        if not flags & _FIRST and is_last:
            raise ValueError(f"cannot be decoded: the Ogg page at byte {at} belongs to no stream")
        data = content[at : at + size]
        if _checksum(data) != data[_CHECKSUM]:  # libogg would leave such a page out
            raise ValueError(f"is damaged: the Ogg page at byte {at} has a wrong checksum")
        if flags & _FIRST:
            starts.append(at)
        is_first, is_last = bool(flags & _FIRST), bool(flags & _LAST)
        at += size
    if any(True for _ in content.find_all(b"OggS", at)):
        raise ValueError(f"cannot be decoded: it has no Ogg page at byte {at}")
    if not is_last:
        raise ValueError("is truncated: its last Ogg page is missing")
    ends = [*starts[1:], at]
    return [content.part(start, end) for start, end in zip(starts, ends, strict=True)], at < content.unpadded_length()


def _page_size(content: Content, at: int, page: bytes) -> int:
    num_segments = page[26] if len(page) == _HEADER else 0
    return _HEADER + num_segments + sum(content[at + _HEADER : at + _HEADER + num_segments])


def _checksum(page: bytes) -> bytes:
    """The checksum of a page, in which its own bytes count as 0.

    It has the polynomial of zlib, but goes through the bits of a byte from the highest.
    """
    zeroed = page[: _CHECKSUM.start] + bytes(4) + page[_CHECKSUM.stop :]
    crc = zlib.crc32(zeroed.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF  # from 0 on, and not inverted
    return crc.to_bytes(4, "little").translate(_REVERSED_BITS)[::-1]
