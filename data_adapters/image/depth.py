"""Bits of the samples in a picture file, read from its header."""

from __future__ import annotations

from PIL import Image

DEEP_MODES = ("I", "F")
"""Prefixes of Pillow's modes for samples of more than 8 bits (I, I;16, I;16B, F)."""


def bits_per_sample(image: Image.Image, content: bytes) -> int:
    """Bits of the widest sample in the file. image: opened from `content`, pixels not loaded yet.

    Formats that cannot hold more than 8 bits, or that Pillow cannot decode when they do, count as 8.
    """
    match image.format:
        case "PNG":
            return png_bits(content)
        case "TIFF":
            return int(max(image.tag_v2.get(258, (1,))))  # type: ignore[attr-defined]
        case "PPM":
            return _netpbm_bits(image)
        case "JPEG2000":
            return _jpeg2000_bits(content)
        case "AVIF":
            return _avif_bits(content)
        case "HEIF":
            return int(image.info.get("bit_depth", 8))
    return 32 if image.mode.startswith(DEEP_MODES) else 8


def png_bits(content: bytes) -> int:
    """Bits of a sample of a PNG: in the header, which is always the first chunk."""
    return content[24]


def _netpbm_bits(image: Image.Image) -> int:
    """Pillow keeps the largest sample value of a PPM as the last argument of its decoder."""
    if image.mode.startswith(DEEP_MODES):
        return 16
    arguments = image.tile[0].args  # type: ignore[attr-defined]
    return arguments[-1].bit_length() if isinstance(arguments, tuple) and isinstance(arguments[-1], int) else 8


def _jpeg2000_bits(content: bytes) -> int:
    """Largest component size in the SIZ marker, which follows the start of the codestream."""
    start = content.find(b"\xff\x4f\xff\x51") + 40
    components = int.from_bytes(content[start : start + 2], "big")
    depths = content[start + 2 : start + 2 + 3 * components : 3]
    return max(((depth & 0x7F) + 1 for depth in depths), default=8)


def _avif_bits(content: bytes) -> int:
    """From the AV1 codec's configuration box: a flag of its third byte is set for more than 8 bits."""
    start = content.find(b"av1C")
    return 10 if start >= 0 and content[start + 6] & 0x40 else 8
