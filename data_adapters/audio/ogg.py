"""Pages of Ogg files: the streams that follow each other, and the end of each."""

from __future__ import annotations

from data_adapters.audio.content import Content

_HEADER = 27
_FIRST, _LAST = 2, 4


def split(content: Content) -> tuple[list[Content], bool]:
    """Return the streams of a chained Ogg file, and whether other data follows the last one.

    Raises ValueError for a file with a missing end or a damaged page, and for streams that are interleaved (video).
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
