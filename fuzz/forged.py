"""Media files built by hand, with headers that need not match their content."""

from __future__ import annotations

import struct
import zlib

from fuzz import seeds


def png(
    width: int, height: int, *chunks: tuple[bytes, bytes], colour_type: int = 2, depth: int = 8, pixels: bytes = b""
) -> bytes:
    """A PNG with this header. chunks: (name, body) before the pixels. pixels: with a filter byte before each row."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(*part) for part in parts)


def _png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def flac(frames: int) -> bytes:
    """A FLAC file of 64 frames whose header states another number."""
    content = seeds.sounds()["FLAC-PCM_16"]
    packed = int.from_bytes(content[18:26], "big") >> 36 << 36 | frames
    return content[:18] + packed.to_bytes(8, "big") + content[26:]


def wav(size: int) -> bytes:
    """A WAV file of 128 bytes of samples whose data chunk states another size."""
    content = seeds.sounds()["WAV-PCM_16"]
    return content[:40] + struct.pack("<I", size) + content[44:]


def flip_bit(content: bytes, share: float = 0.6) -> bytes:
    """The content with one bit flipped, in the byte at this share of its length."""
    at = int(share * len(content))
    return content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :]
