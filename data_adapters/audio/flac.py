"""FLAC files: those that follow each other, those without samples, and other data behind the last frame."""

from __future__ import annotations

import struct

from data_adapters.audio.content import Content

_MAGIC = b"fLaC"
_EMPTY = _MAGIC + bytes([0x80, 0, 0, 34]) + struct.pack(">HH", 4096, 4096) + bytes(6)
_MIN_TAIL = 2**16


def split(content: Content) -> list[Content]:
    """Return the FLAC files that follow each other."""
    files = []
    while (end := _next_file(content)) is not None:
        files.append(content.part(0, end))
        content = content.part(end)
    return [*files, content]


def empty_flac(rate: int, channels: int, bits: int) -> bytes:
    """Return a FLAC file without samples, for which libsndfile writes no header at all."""
    packed = rate << 44 | channels - 1 << 41 | bits - 1 << 36
    return _EMPTY + packed.to_bytes(8, "big") + bytes(16)


def read_empty_flac(content: Content) -> tuple[int, int] | None:
    """Rate and channels of a FLAC file that ends after its metadata; None for any other file."""
    if content[:4] != _MAGIC or len(content) < 42 or _first_frame(content) != len(content):
        return None
    packed = int.from_bytes(content[18:26], "big")
    return None if packed & 2**36 - 1 else (packed >> 44, (packed >> 41 & 7) + 1)


def has_trailing_data(content: Content) -> bool:
    """True where the file does not end with the frame that holds its last sample, but for NULs and an ID3v1 tag."""
    end = len(content) - 128 if content[len(content) - 128 :][:3] == b"TAG" else len(content)
    start = _first_frame(content) or end
    block_size, max_frame_size = int.from_bytes(content[10:12], "big"), int.from_bytes(content[15:18], "big")
    num_samples = int.from_bytes(content[18:26], "big") & 2**36 - 1
    if not num_samples:
        return start < end
    tail = content[max(start, end - max(max_frame_size, _MIN_TAIL)) : end]
    at = len(tail)
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        if _end_of_samples(tail[at : at + 16], block_size) == num_samples:
            return _crc(tail[at:], 0x8005, 16) != 0  # the last two bytes of a frame make it 0
    return True


def _next_file(content: Content) -> int | None:
    start = _first_frame(content)
    if start is None:
        return None
    files = (at for at in content.find_all(_MAGIC, start) if content[at + 5 : at + 8] == b"\0\0\x22")
    return next((at for at in files if content[at + 4 : at + 5] in (b"\0", b"\x80")), None)


def _first_frame(content: Content) -> int | None:
    """Position behind the metadata; None where that is incomplete."""
    at, is_last = 4, False
    while not is_last:
        header = content[at : at + 4]
        if len(header) < 4:
            return None
        is_last = bool(header[0] & 0x80)
        at += 4 + int.from_bytes(header[1:], "big")
    return at if at <= len(content) else None


def _end_of_samples(head: bytes, block_size: int) -> int | None:
    """Number of the sample behind the frame with these first bytes; None for bytes that are no frame header."""
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or not head[2] >> 4:
        return None
    size_code, rate_code = head[2] >> 4, head[2] & 15
    num_bytes = max(8 - (head[4] ^ 0xFF).bit_length(), 1)  # of the number, coded like a character in UTF-8
    number = head[4] & (0x7F if num_bytes == 1 else 0x7F >> num_bytes)
    for byte in head[5 : 4 + num_bytes]:
        number = number << 6 | byte & 0x3F
    at = 4 + num_bytes
    size_bytes = {6: 1, 7: 2}.get(size_code, 0)
    size = int.from_bytes(head[at : at + size_bytes], "big") + 1
    if not size_bytes:
        size = 192 if size_code == 1 else 576 << size_code - 2 if size_code < 6 else 256 << size_code - 8
    at += size_bytes + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if at >= len(head) or _crc(head[: at + 1], 0x07, 8):
        return None
    return (number if head[1] & 1 else number * block_size) + size


def _crc(data: bytes, polynomial: int, bits: int) -> int:
    """Checksum of the data; 0 where its own checksum is at its end."""
    table, mask = [], 2**bits - 1
    for byte in range(256):
        value = byte << bits - 8
        for _ in range(8):
            value = (value << 1 ^ polynomial if value >> bits - 1 else value << 1) & mask
        table.append(value)
    crc = 0
    for byte in data:
        crc = (crc << 8 & mask) ^ table[crc >> bits - 8 ^ byte]
    return crc
