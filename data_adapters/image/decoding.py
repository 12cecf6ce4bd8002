"""Open image files for `ImageAdapter`: whole and at 8 bits or not at all, upright, and as L or RGB."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from data_adapters.base import MediaError
from data_adapters.io import read_bytes

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


_DAMAGE = (
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, ArithmeticError),
    *(TypeError, AttributeError, AssertionError, RuntimeError, struct.error, zlib.error),
)
"""What Pillow's decoders raise on damaged files, as found by feeding them some."""

KINDS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "TGA", "PPM", "JPEG2000", "AVIF")
"""Pillow's names of what is read, whatever the file is called. Of the others some (PCX) hide that they were cut short,
and some are programs (EPS, which Pillow hands to Ghostscript)."""

_ENDS = {"PNG": b"IEND", "JPEG2000": b"\xff\xd9"}
"""What Pillow does not miss where it is missing."""

_GREY = ("1", "L", "LA", "La")
_OTHER_COLOURS = ("CMYK", "YCbCr", "LAB", "HSV")
"""Modes whose values are not those of RGB, so that converting them rounds."""


def open_image(path: str | os.PathLike[str]) -> tuple[Image.Image, list[str]]:
    """The first picture of the file, decoded and turned as its EXIF orientation says, and notes for the user.

    Raises MediaError for what is no image, is damaged or cut short, is too large to be honest (Pillow's limit for
    decompression bombs), or has more than 8 bits a sample.
    """
    content = read_bytes(path)
    with decoding(path):
        Image.init()
        image = Image.open(io.BytesIO(content), formats=[kind for kind in KINDS if kind in Image.OPEN])
        bits = bits_per_sample(image, content)
        if bits > 8:
            raise MediaError(path, f"has {bits} bits a sample; only up to 8 can be kept exactly")
        notes = ["only the first of its pictures"] if getattr(image, "is_animated", False) else []
        image.load()
        if _ENDS.get(str(image.format), b"") not in content:
            raise MediaError(path, "is cut short: its end is missing")
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)
        ImageOps.exif_transpose(image, in_place=True)
    return image, notes + ([f"turned upright (EXIF orientation {turn})"] if turn in range(2, 9) else [])


def convert(image: Image.Image, mode: str) -> tuple[Image.Image, list[str]]:
    """The image in mode "L" or "RGB", and a note for each conversion that loses something.

    1-bit becomes 0 and 255, a palette its colours, grey three equal channels: nothing is lost. Alpha is composited
    over white. Colour becomes grey by Pillow's rule (ITU-R 601-2 luma), CMYK and other colour spaces become RGB by
    Pillow's too; colour profiles are not applied. Raises ValueError for a mode that Pillow cannot convert.
    """
    source, notes = image.mode, []
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            notes.append("alpha composited over white")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if (source not in _GREY) if mode == "L" else (source in _OTHER_COLOURS):
        notes.append(f"converted {source} to {mode}")
    return image.convert(mode), notes


@contextmanager
def decoding(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns all that Pillow raises into MediaError, and its warnings into nothing (a bomb's into an error)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield
        except MediaError:
            raise
        except UnidentifiedImageError as error:
            raise MediaError(path, f"is no picture that can be read: none of {', '.join(KINDS)}") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise MediaError(path, f"is too large to be decoded safely: {error}") from error
        except MemoryError as error:
            raise MediaError(path, "is too large for this machine's memory") from error
        except _DAMAGE as error:
            raise MediaError(path, f"cannot be decoded: {str(error) or 'its parts contradict each other'}") from error
