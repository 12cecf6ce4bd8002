"""Other lossless codecs to compare a model with: arrays in, sizes out.

Each codec encodes one view of a file: its bytes, its pixels or its samples. Sizes are those of whole encoded files,
headers included, and every encoded file is decoded and compared with the input.
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

from data_adapters import Adapter, AudioAdapter, Bytes, ByteStream, ImageAdapter

MISSING = "is not installed: pip install 'megabyte-mm[report]'"


class PcmSound(NamedTuple):
    """samples: (T, C) int16. rate: frames a second. eight_bits: whether every sample is a multiple of 256."""

    samples: NDArray[np.int16]
    rate: int
    eight_bits: bool


@dataclass(frozen=True)
class Content:
    """The views of one file: (n,) uint8 data, the bytes that a model reads; (H, W, C) uint8 pixels; sound."""

    data: Bytes
    pixels: Bytes | None = None
    sound: PcmSound | None = None


def content_of(adapter: Adapter, stream: ByteStream) -> Content:
    """Return the views of a stream that its adapter offers."""
    if isinstance(adapter, ImageAdapter):
        return Content(stream.data, pixels=adapter.pixels(stream))
    if isinstance(adapter, AudioAdapter):
        eight_bits = stream.format["encoding"] == "pcm8"
        return Content(stream.data, sound=PcmSound(adapter.frames(stream), int(stream.format["rate"]), eight_bits))
    return Content(stream.data)


class UnsupportedError(ValueError):
    """A file that a codec cannot encode, or a codec that is not installed."""


class LossyError(ValueError):
    """A codec's output that does not decode to its input."""


@dataclass(frozen=True)
class Codec:
    """A lossless codec.

    input: the view that it encodes. settings: as a text. size: view -> bytes of the encoded file; it raises LossyError
    where these do not decode to the view.
    """

    name: str
    input: Literal["data", "pixels", "sound"]
    settings: str
    size: Callable[[Any], int]

    def encoded_size(self, content: Content) -> int:
        """Return the size of the encoded file. Raises UnsupportedError, and LossyError as `size` does."""
        view = getattr(content, self.input)
        if view is None:
            raise UnsupportedError(f"{self.name} encodes {self.input}, and this file has none")
        try:
            return self.size(view)
        except LossyError:
            raise
        except ImportError as error:
            raise UnsupportedError(f"{self.name} {MISSING}") from error
        except (OSError, ValueError, RuntimeError, SystemError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UnsupportedError(f"{self.name} cannot encode it: {reason}") from error

    def bits_per_byte(self, files: Iterable[Content]) -> float:
        """Return the bits of all files, each encoded by itself, over their bytes.

        Raises ValueError for files without a byte, and as `encoded_size`.
        """
        sizes = [(self.encoded_size(content), len(content.data)) for content in files]
        total = sum(size for _, size in sizes)
        if not total:
            raise ValueError(f"{self.name}: no bytes to compress")
        return 8 * sum(encoded for encoded, _ in sizes) / total

    def joined_bits_per_byte(self, streams: Sequence[Bytes]) -> float:
        """Return the same with all streams end to end as one file, for a codec of bytes."""
        return self.bits_per_byte([Content(np.concatenate(streams))] if streams else [])


def _picture_size(pixels_HWC: Bytes, format: str, **settings: Any) -> int:
    channels = pixels_HWC.shape[2]
    encoded = io.BytesIO()
    Image.fromarray(pixels_HWC[..., 0] if channels == 1 else pixels_HWC).save(encoded, format, **settings)
    with Image.open(encoded) as image:
        decoded = np.asarray(image.convert("RGBA") if channels == 4 else image)
    decoded = decoded.reshape(*decoded.shape[:2], -1)
    # WebP has no grey: it decodes to three equal channels.
    fits = decoded.shape[:2] == pixels_HWC.shape[:2] and channels in (1, decoded.shape[2])
    if not fits or not np.array_equal(np.broadcast_to(pixels_HWC, decoded.shape), decoded):
        raise LossyError(f"{format}: the decoded pixels differ from the input")
    return len(encoded.getvalue())


def _png(pixels_HWC: Bytes) -> int:
    return _picture_size(pixels_HWC, "PNG", optimize=True)


def _webp(pixels_HWC: Bytes) -> int:
    return _picture_size(pixels_HWC, "WEBP", lossless=True, exact=True, method=6, quality=100)


def _jpeg_xl(pixels_HWC: Bytes) -> int:
    import pillow_jxl  # noqa: F401 # registers the format with Pillow

    return _picture_size(pixels_HWC, "JXL", lossless=True, effort=9)


def _flac(sound: PcmSound) -> int:
    encoded = io.BytesIO()
    subtype = "PCM_S8" if sound.eight_bits else "PCM_16"
    soundfile.write(encoded, sound.samples, sound.rate, subtype, format="FLAC", compression_level=1.0)
    size = len(encoded.getvalue())
    encoded.seek(0)
    decoded, rate = soundfile.read(encoded, dtype="int16", always_2d=True)
    if rate != sound.rate or not np.array_equal(decoded, sound.samples):
        raise LossyError("FLAC: the decoded samples differ from the input")
    return size


def _xz(data: Bytes) -> int:
    return _bytes_size(data, lambda raw: lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME), lzma.decompress)


def _zstd(data: Bytes) -> int:
    compressor = zstandard.ZstdCompressor(level=19, write_checksum=False)
    return _bytes_size(data, compressor.compress, zstandard.ZstdDecompressor().decompress)


def _brotli(data: Bytes) -> int:
    import brotli

    return _bytes_size(data, lambda raw: brotli.compress(raw, quality=11), brotli.decompress)


def _bytes_size(data: Bytes, encode: Callable[[bytes], bytes], decode: Callable[[bytes], bytes]) -> int:
    raw = data.tobytes()
    encoded = encode(raw)
    if decode(encoded) != raw:
        raise LossyError("the decoded bytes differ from the input")
    return len(encoded)


CODECS = (
    Codec("PNG", "pixels", "Pillow, optimize", _png),
    Codec("WebP", "pixels", "lossless, exact, method 6, quality 100", _webp),
    Codec("JPEG XL", "pixels", "lossless, effort 9", _jpeg_xl),
    Codec("FLAC", "sound", "highest compression level", _flac),
    Codec("xz", "data", "-9e", _xz),
    Codec("zstd", "data", "-19, no checksum", _zstd),
    Codec("brotli", "data", "quality 11", _brotli),
)
