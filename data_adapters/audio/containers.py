"""Defects of sound files that libsndfile ignores: a missing end, a size never filled in, FLAC without any sample."""

from __future__ import annotations

import struct
from typing import Literal

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

_EMPTY_FLAC = b"fLaC" + bytes([0x80, 0, 0, 34]) + struct.pack(">HH", 4096, 4096) + bytes(6)


def is_truncated(content: bytes) -> bool:
    """True for a WAV, AIFF or Ogg file without its end. (For FLAC and MP3, decoding shows that.)"""
    if content[:4] == b"OggS":
        return _ogg_is_truncated(content)
    return content[:4] in _SAMPLES_CHUNK and _chunk_is_truncated(content, *_SAMPLES_CHUNK[content[:4]])


def has_trailing_data(content: bytes) -> bool:
    """True where something other than chunks follows the samples of a WAV or AIFF file: its sizes are wrong."""
    name, order = _SAMPLES_CHUNK.get(content[:4], (b"data", "little"))
    chunk = _find_chunk(content, name, order) if content[:4] in _SAMPLES_CHUNK else None
    if chunk is None or chunk[1] >= _UNKNOWN_SIZE:
        return False
    at, end = sum(chunk) + chunk[1] % 2, len(content.rstrip(b"\0"))
    while at + 8 <= end:
        if not content[at : at + 4].decode("latin-1").isprintable():
            return True
        size = int.from_bytes(content[at + 4 : at + 8], order)
        at += 8 + size + size % 2
    return at < end or at > len(content) + 1


def close_wav(content: bytes) -> bytes:
    """Fill in the data size of a WAV whose writer left it at 0; other content is returned unchanged.

    libsndfile would read no samples otherwise. A finished file without samples has the right outer size and is not
    changed.
    """
    chunk = _find_chunk(content, b"data", "little") if content[:4] == b"RIFF" else None
    if chunk is None or chunk[1] or int.from_bytes(content[4:8], "little") + 8 == len(content):
        return content
    start = chunk[0]
    return content[: start - 4] + struct.pack("<I", len(content) - start) + content[start:]


def states_length(content: bytes) -> bool:
    """True for an MP3 file whose header (Xing, Info) states its length; otherwise decoders can only estimate it."""
    start = 0
    if content[:3] == b"ID3":
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(content[6:10], (21, 14, 7, 0), strict=True))
    head = content[start : start + 256]
    return b"Xing" in head or b"Info" in head


def empty_flac(rate: int, channels: int, bits: int) -> bytes:
    """Return a FLAC file without samples, for which libsndfile writes no header at all."""
    packed = rate << 44 | channels - 1 << 41 | bits - 1 << 36
    return _EMPTY_FLAC + packed.to_bytes(8, "big") + bytes(16)


def read_empty_flac(content: bytes) -> tuple[int, int] | None:
    """Rate and channels of a FLAC file that ends after its metadata; None for any other file."""
    if content[:4] != b"fLaC" or len(content) < 42:
        return None
    at, last = 4, False
    while not last and at + 4 <= len(content):
        last = bool(content[at] & 0x80)
        at += 4 + int.from_bytes(content[at + 1 : at + 4], "big")
    packed = int.from_bytes(content[18:26], "big")
    num_samples = packed & 2**36 - 1
    return (packed >> 44, (packed >> 41 & 7) + 1) if last and at == len(content) and not num_samples else None


def _find_chunk(content: bytes, name: bytes, order: _Order) -> tuple[int, int] | None:
    """Position of the chunk's content, and the size that its header states."""
    at = 12
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], order)
        if content[at : at + 4] == name:
            return at + 8, size
        at += 8 + size + size % 2
    return None


def _chunk_is_truncated(content: bytes, name: bytes, order: _Order) -> bool:
    chunk = _find_chunk(content, name, order)
    if chunk is None:
        return int.from_bytes(content[4:8], order) + 8 > len(content)
    start, size = chunk
    if content[:4] == b"RF64":  # sizes above 32 bits are in the first chunk
        size = int.from_bytes(content[28:36], "little")
    elif size >= _UNKNOWN_SIZE:
        return False
    return start + size > len(content)


def _ogg_is_truncated(content: bytes) -> bool:
    """An Ogg file must end with a complete page that is marked as the last."""
    at = content.rfind(b"OggS")
    header = content[at : at + 27]
    if len(header) < 27:
        return True
    segments = content[at + 27 : at + 27 + header[26]]
    return not header[5] & 4 or at + 27 + header[26] + sum(segments) > len(content)
