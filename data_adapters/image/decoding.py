"""Decode image files for `ImageAdapter`: complete, upright, at 8 bits a sample, as L or RGB; or refuse them."""

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
"""Prefixes of Pillow's modes for samples of more than 8 bits (I, I;16, I;16B, F)."""


def bits_per_sample(image: Image.Image, content: bytes) -> int:
    """Bits of the widest sample in the file. image: opened from `content`, pixels not loaded yet.

    Formats that cannot hold more than 8 bits, or that Pillow cannot decode when they do, count as 8.
    """
    match image.format:
        case "PNG":
            return content[24]  # in the header, always the first chunk
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
    """Largest component size in the SIZ marker, which follows the start of the codestream."""
    start = content.find(b"\xff\x4f\xff\x51") + 40
    components = int.from_bytes(content[start : start + 2], "big")
    depths = content[start + 2 : start + 2 + 3 * components : 3]
    return max(((depth & 0x7F) + 1 for depth in depths), default=8)


def _avif_bits(content: bytes) -> int:
    """From the AV1 codec's configuration box: a flag of its third byte is set for more than 8 bits."""
    start = content.find(b"av1C")
    return 10 if start >= 0 and content[start + 6] & 0x40 else 8


_DECODER_ERRORS = (
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, ArithmeticError),
    *(TypeError, AttributeError, AssertionError, RuntimeError, struct.error, zlib.error),
)
"""Exceptions of Pillow's decoders on damaged files; the list comes from fuzzing them."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "TGA", "PPM", "JPEG2000", "AVIF")
"""Pillow's names of the supported formats; file names do not matter. Some of the others (PCX) do not show when they are
truncated, and some are programs (EPS, which Pillow passes to Ghostscript)."""

_END_MARKERS = {"PNG": b"IEND", "JPEG2000": b"\xff\xd9"}
"""Ends of files that Pillow decodes without complaint when they are missing."""

_GREY = ("1", "L", "LA", "La")
_OTHER_COLOURS = ("CMYK", "YCbCr", "LAB", "HSV")
"""Modes whose conversion to RGB rounds."""


def open_image(path: str | os.PathLike[str]) -> tuple[Image.Image, list[str]]:
    """Decode the file's first image, turned upright by its EXIF orientation. Returns it with notes for the user.

    Raises MediaError for a file that is not an image, is damaged or truncated, is larger than Pillow's limit for
    decompression bombs, or has more than 8 bits a sample.
    """
    content = read_bytes(path)
    with decoding(path):
        Image.init()
        image = Image.open(io.BytesIO(content), formats=[name for name in FORMATS if name in Image.OPEN])
        bits = bits_per_sample(image, content)
        if bits > 8:
            raise MediaError(path, f"has {bits} bits a sample; only up to 8 can be kept exactly")
        notes = ["only the first of its images"] if getattr(image, "is_animated", False) else []
        image.load()
        if _END_MARKERS.get(str(image.format), b"") not in content:
            raise MediaError(path, "is truncated: its end is missing")
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        ImageOps.exif_transpose(image, in_place=True)
    if orientation in range(2, 9):
        notes.append(f"turned upright (EXIF orientation {orientation})")
    return image, notes


def convert(image: Image.Image, mode: str) -> tuple[Image.Image, list[str]]:
    """Convert the image to mode "L" or "RGB". Returns it with a note for each lossy conversion.

    Lossless: 1-bit becomes 0 and 255, a palette its colours, grey three equal channels. Alpha is composited over white.
    Pillow's rules convert colour to grey (ITU-R 601-2 luma) and CMYK and other colour spaces to RGB; colour profiles
    are not applied. Raises ValueError for a mode that Pillow cannot convert.
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
    """Raise MediaError for every exception of Pillow and for its decompression bomb warning; silence other warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield
        except MediaError:
            raise
        except UnidentifiedImageError as error:
            raise MediaError(path, f"is not an image in a supported format: {', '.join(FORMATS)}") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise MediaError(path, f"is too large to be decoded safely: {error}") from error
        except MemoryError as error:
            raise MediaError(path, "is too large for this machine's memory") from error
        except _DECODER_ERRORS as error:
            raise MediaError(path, f"cannot be decoded: {str(error) or 'its contents are inconsistent'}") from error
