"""Other lossless coders to measure a model against: arrays in, sizes out, and every size is of what decodes again.

Each coder takes one view of a file: its bytes, its pixels or its samples. Sizes are those of whole files as the coder
writes them, headers included.
"""

from __future__ import annotations

import io
import lzma
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import soundfile
import zstandard
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]
MISSING = "is not installed: pip install 'megabyte-mm[report]'"


class Sound(NamedTuple):
    """samples: (T, C) int16. rate: frames a second. eight_bits: whether every sample is a multiple of 256."""

    samples: NDArray[np.int16]
    rate: int
    eight_bits: bool


@dataclass(frozen=True)
class Content:
    """One file as the coders take it.

    data: (n,) uint8, the bytes that a model reads. pixels: (H, W, C) uint8 of a picture. sound: of a sound.
    """

    data: Bytes
    pixels: Bytes | None = None
    sound: Sound | None = None


@dataclass(frozen=True)
class Codec:
    """A lossless coder. takes: the view that it is given. how: its settings, for people.

    size: the view -> bytes of the coded file. It raises LossyError where these do not decode to the view again.
    """

    name: str
    takes: Literal["data", "pixels", "sound"]
    how: str
    size: Callable[[Any], int]

    def encoded_size(self, content: Content) -> int:
        """Return the size of the encoded file. Raises UnsupportedError, and LossyError as `size` does."""
        view = getattr(content, self.takes)
        if view is None:
            raise UnsupportedError(f"{self.name} takes {self.takes}, and this file has none")
        try:
            return self.size(view)
        except LossyError:
            raise
        except ImportError as error:
            raise UnsupportedError(f"{self.name} {MISSING}") from error
        except (OSError, ValueError, RuntimeError, SystemError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UnsupportedError(f"{self.name} cannot take it: {reason}") from error


class UnsupportedError(ValueError):
    """A file that a coder cannot take, or a coder that is not installed."""


class LossyError(ValueError):
    """What came out of a coder is not what went in."""


def bits_per_byte(coder: Codec, files: Iterable[Content]) -> float:
    """Bits that a coder spends on all files, each coded by itself, over the number of their bytes.

    Raises ValueError for no bytes, and as `Codec.encoded_size` does.
    """
    sizes = [(coder.encoded_size(content), len(content.data)) for content in files]
    total = sum(size for _, size in sizes)
    if not total:
        raise ValueError(f"{coder.name}: no bytes to compress")
    return 8 * sum(coded for coded, _ in sizes) / total


def joined_bits_per_byte(coder: Codec, streams: Sequence[Bytes]) -> float:
    """The same for a coder of bytes, with all streams end to end as one file."""
    return bits_per_byte(coder, [Content(np.concatenate(streams))] if streams else [])


def _picture_size(pixels_HWC: Bytes, format: str, **how: Any) -> int:
    channels = pixels_HWC.shape[2]
    coded = io.BytesIO()
    Image.fromarray(pixels_HWC[..., 0] if channels == 1 else pixels_HWC).save(coded, format, **how)
    with Image.open(coded) as image:
        decoded = np.asarray(image.convert("RGBA") if channels == 4 else image)
    decoded = decoded.reshape(*decoded.shape[:2], -1)
    # WebP has no grey: it gives back three equal channels.
    fits = decoded.shape[:2] == pixels_HWC.shape[:2] and channels in (1, decoded.shape[2])
    if not fits or not np.array_equal(np.broadcast_to(pixels_HWC, decoded.shape), decoded):
        raise LossyError(f"{format}: other pixels came out than went in")
    return len(coded.getvalue())


def _png(pixels_HWC: Bytes) -> int:
    return _picture_size(pixels_HWC, "PNG", optimize=True)


def _webp(pixels_HWC: Bytes) -> int:
    return _picture_size(pixels_HWC, "WEBP", lossless=True, exact=True, method=6, quality=100)


def _jpeg_xl(pixels_HWC: Bytes) -> int:
    import pillow_jxl  # noqa: F401 # makes the format known to Pillow

    return _picture_size(pixels_HWC, "JXL", lossless=True, effort=9)


def _flac(sound: Sound) -> int:
    coded = io.BytesIO()
    subtype = "PCM_S8" if sound.eight_bits else "PCM_16"
    soundfile.write(coded, sound.samples, sound.rate, subtype, format="FLAC", compression_level=1.0)
    size = len(coded.getvalue())
    coded.seek(0)
    decoded, rate = soundfile.read(coded, dtype="int16", always_2d=True)
    if rate != sound.rate or not np.array_equal(decoded, sound.samples):
        raise LossyError("FLAC: other samples came out than went in")
    return size


def _xz(data: Bytes) -> int:
    return _bytes_size(data, lambda raw: lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME), lzma.decompress)


def _zstd(data: Bytes) -> int:
    coder = zstandard.ZstdCompressor(level=19, write_checksum=False)
    return _bytes_size(data, coder.compress, zstandard.ZstdDecompressor().decompress)


def _brotli(data: Bytes) -> int:
    import brotli

    return _bytes_size(data, lambda raw: brotli.compress(raw, quality=11), brotli.decompress)


def _bytes_size(data: Bytes, encode: Callable[[bytes], bytes], decode: Callable[[bytes], bytes]) -> int:
    raw = data.tobytes()
    coded = encode(raw)
    if decode(coded) != raw:
        raise LossyError("other bytes came out than went in")
    return len(coded)


CODECS = (
    Codec("PNG", "pixels", "Pillow, optimize", _png),
    Codec("WebP", "pixels", "lossless, exact, method 6, quality 100", _webp),
    Codec("JPEG XL", "pixels", "lossless, effort 9", _jpeg_xl),
    Codec("FLAC", "sound", "highest compression level", _flac),
    Codec("xz", "data", "-9e", _xz),
    Codec("zstd", "data", "-19, no checksum", _zstd),
    Codec("brotli", "data", "quality 11", _brotli),
)
