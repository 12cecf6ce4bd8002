"""How many bits a sample has in an image file, read from the file itself: Pillow halves deep samples without a word."""

from __future__ import annotations

from PIL import Image

DEEP_MODES = ("I", "F")
"""What Pillow's modes for samples of more than 8 bits start with (I, I;16, I;16B, F)."""


def bits_per_sample(image: Image.Image, content: bytes) -> int:
    """The bits of the widest sample in the file. image: as opened from `content`, its pixels not loaded yet.

    Formats which cannot hold more than 8 bits, or which Pillow cannot decode when they do, count as 8.
    """
    match image.format:
        case "PNG":
            return content[24]  # in the header chunk, which stands first
        case "TIFF":
            return int(max(image.tag_v2.get(258, (1,))))  # type: ignore[attr-defined]
        case "PPM":
            return _netpbm_bits(image)
        case "JPEG2000":
            return _jpeg2000_bits(content)
        case "AVIF":
            return _avif_bits(content)
    return 32 if image.mode.startswith(DEEP_MODES) else 8


def _netpbm_bits(image: Image.Image) -> int:
    """Pillow keeps the largest sample value of a PPM as the last argument of its decoder."""
    if image.mode.startswith(DEEP_MODES):
        return 16
    arguments = image.tile[0].args  # type: ignore[attr-defined]
    return arguments[-1].bit_length() if isinstance(arguments, tuple) and isinstance(arguments[-1], int) else 8


def _jpeg2000_bits(content: bytes) -> int:
    """From the SIZ marker, which follows the start of the codestream: the sizes of all components."""
    start = content.find(b"\xff\x4f\xff\x51") + 40
    components = int.from_bytes(content[start : start + 2], "big")
    depths = content[start + 2 : start + 2 + 3 * components : 3]
    return max(((depth & 0x7F) + 1 for depth in depths), default=8)


def _avif_bits(content: bytes) -> int:
    """From the configuration box of the AV1 codec, whose third byte has the flag for more than 8 bits."""
    start = content.find(b"av1C")
    return 10 if start >= 0 and content[start + 6] & 0x40 else 8
