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
from data_adapters.image.depth import bits_per_sample
from data_adapters.image.heif import is_heic, orientation_applied, require_reader
from data_adapters.image.messages import plain_limit, plain_reason
from data_adapters.image.profiles import apply_profile
from data_adapters.image.transparency import correct_transparency
from data_adapters.io import read_bytes

_DECODER_ERRORS = (
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, ArithmeticError),
    *(TypeError, AttributeError, AssertionError, RuntimeError, struct.error, zlib.error),
)
"""Exceptions of Pillow's decoders on damaged files; the list comes from fuzzing them."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "TGA", "PPM", "JPEG2000", "AVIF", "HEIF")
"""Pillow's names of the supported formats; file names do not matter. Some of the others (PCX) do not show when they are
truncated, and some are programs (EPS, which Pillow passes to Ghostscript)."""

_END_MARKERS = {"PNG": b"IEND", "JPEG2000": b"\xff\xd9"}
"""Ends of files that Pillow decodes without complaint when they are missing."""

_ORIENTATION = ExifTags.Base.Orientation
_GREY = ("1", "L", "LA", "La")
_OTHER_COLOURS = ("CMYK", "YCbCr", "LAB", "HSV")
"""Modes whose conversion to RGB rounds."""


def open_image(path: str | os.PathLike[str], max_pixels: int | None = None) -> tuple[Image.Image, list[str]]:
    """Decode the file's first image, turned upright by its orientation. Returns it with notes for the user.

    max_pixels: pixels that it may have; by default Pillow's limit. Raises MediaError for a file that is not an image,
    is damaged or truncated, is larger than the limit, has more than 8 bits a sample, or whose reader is not installed.
    """
    content = read_bytes(path)
    with decoding(path, max_pixels):
        Image.init()
        require_reader(path, content)
        formats = ["HEIF"] if is_heic(content) else [name for name in FORMATS if name in Image.OPEN]
        image: Image.Image = Image.open(io.BytesIO(content), formats=formats)
        bits = bits_per_sample(image, content)
        if bits > 8:
            raise MediaError(path, f"has {bits} bits a sample; only up to 8 can be kept exactly")
        notes = ["only the first of its images"] if getattr(image, "is_animated", False) else []
        # TIFF is turned while it is loaded, and then states no orientation.
        applied = (
            image.getexif().get(_ORIENTATION, 1) if image.format == "TIFF" else orientation_applied(image, content)
        )
        image.load()
        if _END_MARKERS.get(str(image.format), b"") not in content:
            raise MediaError(path, "is truncated: its end is missing")
        image = correct_transparency(image, content)
        orientation = image.getexif().get(_ORIENTATION, 1)
        ImageOps.exif_transpose(image, in_place=True)
    orientation = applied if orientation == 1 else orientation
    if orientation in range(2, 9):
        notes.append(f"turned upright (EXIF orientation {orientation})")
    return image, notes


def convert(image: Image.Image, mode: str, convert_profile: bool = False) -> tuple[Image.Image, list[str]]:
    """Convert the image to mode "L" or "RGB". Returns it with a note for each lossy conversion.

    Lossless: 1-bit becomes 0 and 255, a palette its colours, grey three equal channels. Alpha is composited over white.
    Pillow's rules convert colour to grey (ITU-R 601-2 luma) and CMYK and other colour spaces to RGB. convert_profile:
    convert to sRGB by the image's colour profile, which is otherwise ignored with a note. Raises ValueError for a mode
    that Pillow cannot convert.
    """
    source = image.mode
    image, notes = apply_profile(image, convert_profile)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            notes.append("alpha composited over white")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if (source not in _GREY) if mode == "L" else (source in _OTHER_COLOURS and image.mode != mode):
        notes.append(f"converted {'palette' if source in ('P', 'PA') else source} to {mode}")
    return image.convert(mode), notes


@contextmanager
def decoding(path: str | os.PathLike[str], max_pixels: int | None = None) -> Iterator[None]:
    """Raise MediaError for every exception of Pillow and for its decompression bomb warning; silence other warnings.

    max_pixels: replaces Pillow's limit meanwhile, since it is a variable of its module.
    """
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            Image.MAX_IMAGE_PIXELS = limit if max_pixels is None else max_pixels
            yield
        except MediaError:
            raise
        except UnidentifiedImageError as error:
            raise MediaError(path, f"is not an image in a supported format: {', '.join(FORMATS)}") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise MediaError(path, f"is too large to be decoded safely: {plain_limit(error)}") from error
        except MemoryError as error:
            raise MediaError(path, "is too large for this machine's memory") from error
        except _DECODER_ERRORS as error:
            raise MediaError(path, f"cannot be decoded: {plain_reason(error)}") from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit
