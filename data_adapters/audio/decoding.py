"""Decode sound files for `AudioAdapter` block by block: complete ones, or refuse them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import soundfile

from data_adapters.audio import flac, mp3
from data_adapters.audio.content import Content, ContentFile
from data_adapters.audio.encoding import Samples, Steps
from data_adapters.audio.messages import plain_reason
from data_adapters.audio.segments import Segment, split
from data_adapters.audio.stderr import silenced_stderr
from data_adapters.base import MediaError
from data_adapters.io import open_binary

_SIXTEEN_BITS = ("PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM")
"""libsndfile's names of the codings with samples of at most 16 bits."""

_NAMES = {
    "FLOAT": "32-bit floating-point",
    "DOUBLE": "64-bit floating-point",
    "ULAW": "mu-law",
    "ALAW": "A-law",
    "VORBIS": "Vorbis",
    "OPUS": "Opus",
    "MPEG_LAYER_III": "MP3",
}
"""What people call libsndfile's codings, beside PCM_24 and such, which are 24-bit."""

_CONTAINERS = ("WAV", "WAVEX", "RF64", "AIFF", "FLAC", "OGG", "MP3")
"""libsndfile's names of the supported formats: those in which a missing end is detected."""

MIN_SAMPLE_LIMIT = 2**26
"""Samples that a file of any size may decode to: 25 minutes at 44.1 kHz."""
MAX_SAMPLES_PER_BYTE = 64
"""Samples per byte of the file that larger files may decode to. Opus speech, the densest common coding, has 30."""
BLOCK_SAMPLES = 2**18
"""Samples of all channels that are decoded at once."""


class _SequentialFile(soundfile.SoundFile):  # type: ignore[misc]
    """Read from front to end. SoundFile else seeks after each block, which restarts MP3 and Opus decoders."""

    def seekable(self) -> bool:
        """False."""
        return False


@dataclass(frozen=True)
class _Header:
    """rate: frames a second. coding: libsndfile's name ("PCM_24", "VORBIS")."""

    rate: int
    channels: int
    coding: str

    @property
    def coding_name(self) -> str:
        """The coding in plain words, such as 24-bit."""
        bits = self.coding.removeprefix("PCM_").lstrip("SU")
        return f"{bits}-bit" if bits.isdigit() else _NAMES.get(self.coding, self.coding.replace("_", " "))

    def __str__(self) -> str:
        return f"{self.coding_name}, {self.rate} Hz, {self.channels} channel{'s' * (self.channels > 1)}"


@dataclass(frozen=True)
class Sound:
    """An open file, whose samples are decoded by `blocks`.

    header: of all segments. segments: each with the number of frames that it states. notes: as of `ByteStream`.
    """

    header: _Header
    segments: tuple[tuple[Segment, int], ...]
    notes: tuple[str, ...] = ()

    @property
    def num_frames(self) -> int:
        """Number of frames that the file states."""
        return sum(num_frames for _, num_frames in self.segments)

    @property
    def is_finer(self) -> bool:
        """True where the file's own samples have more than 16 bits."""
        return self.header.coding not in _SIXTEEN_BITS

    def blocks(self) -> Iterator[Samples | Steps]:
        """Decode (T, C) int16 where the file holds nothing finer, else float64 in steps of 16-bit sound.

        Full scale is 32768. Raises ValueError for a truncated file, and for infinite or NaN samples.
        """
        kind = "float64" if self.is_finer else "int16"
        for segment, num_frames in self.segments:
            num_decoded = 0
            for samples in _decode(segment, num_frames, kind):
                if samples.dtype == np.float64:
                    with np.errstate(over="ignore"):  # refused in the next line
                        samples *= 32768
                    if not np.isfinite(samples).all():
                        raise ValueError("has infinite or NaN samples")
                num_decoded += len(samples)
                yield samples
            if num_decoded < num_frames - (mp3.DECODER_DELAY if segment.is_mp3 else 0):
                raise ValueError(f"is truncated: it has {num_decoded} of {num_frames} frames")


@contextmanager
def open_sound(path: str | os.PathLike[str]) -> Iterator[Sound]:
    """Open a file whose samples are decoded inside the block. ValueErrors raised there become MediaErrors.

    Raises MediaError for a file that is not a sound, is damaged or truncated, has infinite or NaN samples, joins sounds
    of different formats, or would decode to more than MIN_SAMPLE_LIMIT samples and more than MAX_SAMPLES_PER_BYTE times
    its size. Raises UnavailableError where the machine fails, as where memory ends.
    """
    with open_binary(path) as file:
        try:
            yield _open(Content.of(file))
        except MediaError:
            raise
        except soundfile.LibsndfileError as error:
            raise MediaError(path, plain_reason(error)) from error
        except ValueError as error:
            raise MediaError(path, str(error)) from error


def _open(content: Content) -> Sound:
    segments, notes = split(content)
    headers: list[_Header] = []
    lengths: list[int] = []
    for segment in segments:
        header, num_frames = _read_header(segment)
        if headers and header != headers[0]:
            raise ValueError(f"joins sounds of different formats ({headers[0]}; {header}); split it first")
        headers.append(header)
        lengths.append(max(num_frames, segment.num_frames))
        if sum(lengths) * header.channels > max(MIN_SAMPLE_LIMIT, MAX_SAMPLES_PER_BYTE * len(content)):
            size = f"{sum(lengths)} frames of {header.channels} channels in {len(content)} bytes"
            raise ValueError(f"is too large to be decoded safely: {size}; convert it to WAV first")
    return Sound(headers[0], tuple(zip(segments, lengths, strict=True)), notes)


def _read_header(segment: Segment) -> tuple[_Header, int]:
    """Return the header and the number of frames that it states. Raises ValueError for unsupported files."""
    if (empty := flac.read_empty_flac(segment.content)) is not None:
        return _Header(*empty, "PCM_16"), 0
    source = ContentFile(segment.content)
    with _library_call(segment, source):
        file = soundfile.SoundFile(source)
    with file:
        if file.format not in _CONTAINERS:
            raise ValueError(f"is {file.format_info}; supported are WAV, AIFF, FLAC, Ogg and MP3 files")
        if not file.seekable():  # GSM, G.72x: libsndfile does not know where their last block ends
            raise ValueError(f"is coded as {file.subtype_info}, which is not supported; convert it to 16 bits first")
        if file.format == "MP3" and not segment.is_mp3:  # frames without a stated size
            raise ValueError("is an MP3 file of free bit rate, which is not supported; convert it to WAV first")
        if file.frames > len(segment.content) << 16:  # FLAC and Ogg streams with an open end
            raise ValueError("states no plausible length; convert it to WAV first")
        return _Header(file.samplerate, file.channels, file.subtype), file.frames


def _decode(segment: Segment, num_frames: int, kind: str) -> Iterator[Samples | Steps]:
    """Decode all blocks of a segment. Raises OSError where reading fails."""
    if not num_frames:
        return
    source = ContentFile(segment.content)
    with _library_call(segment, source):
        file = _SequentialFile(source)
    with file:
        while num_frames > 0:  # and no further: FLAC decoders fail on what follows
            block_frames = min(max(BLOCK_SAMPLES // file.channels, 1), num_frames)
            with _library_call(segment, source):
                samples = file.read(block_frames, dtype=kind, always_2d=True)
            if not len(samples):
                return
            num_frames -= len(samples)
            yield samples


@contextmanager
def _library_call(segment: Segment, source: ContentFile) -> Iterator[None]:
    """Keep libsndfile silent, and raise the OSError of its source, which it takes for the end of the file."""
    try:
        with silenced_stderr(segment.is_mp3):
            yield
    except soundfile.LibsndfileError:
        if source.error is None:
            raise
    if source.error is not None:
        raise source.error
