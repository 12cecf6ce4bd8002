"""Chunks of WAV and AIFF files: a missing end, a size never filled in, other data behind the samples."""

from __future__ import annotations

import struct
from typing import Literal

from data_adapters.audio.content import Content

_UNKNOWN_SIZE = 0x7FFF0000
"""Chunk sizes from here up mean "unknown" (streaming programs write them: 0xFFFFFFFF by ffmpeg, 0x7FFFF000 by sox)."""

_Order = Literal["little", "big"]
_SAMPLES_CHUNK: dict[bytes, tuple[bytes, _Order]] = {
    b"RIFF": (b"data", "little"),
    b"RF64": (b"data", "little"),
    b"RIFX": (b"data", "big"),
    b"FORM": (b"SSND", "big"),
}
"""First bytes of a file made of chunks -> name of the chunk with the samples, and the byte order of sizes."""


def is_chunked(content: Content) -> bool:
    """True for a file made of chunks: WAV, AIFF."""
    return content[:4] in _SAMPLES_CHUNK


def is_truncated(content: Content) -> bool:
    """True for a WAV or AIFF file without its end."""
    name, order = _SAMPLES_CHUNK[content[:4]]
    chunk = _find_chunk(content, name, order)
    if chunk is None:
        return int.from_bytes(content[4:8], order) + 8 > len(content)
    start, size = chunk
    if content[:4] == b"RF64":  # sizes above 32 bits are in the first chunk
        size = int.from_bytes(content[28:36], "little")
    elif size >= _UNKNOWN_SIZE:
        return False
    return start + size > len(content)


def split(content: Content) -> tuple[list[Content], bool]:
    """Return the WAV or AIFF files that follow each other, and whether something else follows: sizes are wrong."""
    files: list[Content] = []
    while True:
        end, has_trailing_data = _find_end(content)
        if end is None:
            return [*files, content], has_trailing_data
        files.append(content.part(0, end))
        content = content.part(end)


def _find_end(content: Content) -> tuple[int | None, bool]:
    """Position of the next file behind this one, if there is one; True where something else follows its chunks."""
    name, order = _SAMPLES_CHUNK[content[:4]]
    chunk = _find_chunk(content, name, order)
    if chunk is None or chunk[1] >= _UNKNOWN_SIZE:
        return None, False
    at, end = sum(chunk) + chunk[1] % 2, content.unpadded_length()
    while at + 8 <= end:
        chunk_name = content[at : at + 4]
        if chunk_name in _SAMPLES_CHUNK:
            return at, False
        if not chunk_name.decode("latin-1").isprintable():
            return None, True
        size = int.from_bytes(content[at + 4 : at + 8], order)
        at += 8 + size + size % 2
    return None, at < end or at > len(content) + 1


def close_wav(content: Content) -> Content:
    """Fill in the data size of a WAV whose writer left it at 0; other content is returned unchanged.

    libsndfile would read no samples otherwise. A finished file without samples has the right outer size and is not
    changed.
    """
    chunk = _find_chunk(content, b"data", "little") if content[:4] == b"RIFF" else None
    if chunk is None or chunk[1] or int.from_bytes(content[4:8], "little") + 8 == len(content):
        return content
    start = chunk[0]
    return content.part(start, prefix=content[: start - 4] + struct.pack("<I", min(len(content) - start, 2**32 - 1)))


def _find_chunk(content: Content, name: bytes, order: _Order) -> tuple[int, int] | None:
    """Position of the chunk's content, and the size that its header states."""
    at = 12
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], order)
        if content[at : at + 4] == name:
            return at + 8, size
        at += 8 + size + size % 2
    return None
