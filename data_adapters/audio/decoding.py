"""Decode sound files for `AudioAdapter`: complete ones, or refuse them."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass

import numpy as np
import soundfile

from data_adapters.audio import containers
from data_adapters.audio.encoding import Samples, Steps
from data_adapters.audio.messages import plain_reason
from data_adapters.base import MediaError
from data_adapters.io import read_bytes

_SIXTEEN_BITS = ("PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM")
"""libsndfile's names of the codings with samples of at most 16 bits."""

_UNKNOWN_LENGTH = "an MP3 file that does not state its length: the end may be missing"

_CONTAINERS = ("WAV", "WAVEX", "RF64", "AIFF", "FLAC", "OGG", "MP3")
"""libsndfile's names of the supported formats: those in which a missing end is detected."""

MIN_SAMPLE_LIMIT = 2**26
"""Samples that a file of any size may decode to: 25 minutes at 44.1 kHz."""
MAX_SAMPLES_PER_BYTE = 64
"""Samples per byte of the file that larger files may decode to. Opus speech, the densest common coding, has 30."""


class _Content(io.BytesIO):
    """Clamps seeks before the start, which libsndfile makes on damaged headers: its callbacks must not raise."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return super().seek(0)


@dataclass(frozen=True)
class Sound:
    """A decoded file.

    samples: (T, C) int16 where the file holds nothing finer, else float64 in steps of 16-bit sound (full scale 32768).
    rate: frames a second. coding: libsndfile's name ("PCM_24", "VORBIS"). notes: as of `ByteStream`.
    """

    samples: Samples | Steps
    rate: int
    coding: str
    notes: tuple[str, ...] = ()

    @property
    def is_finer(self) -> bool:
        """True where the file's own samples have more than 16 bits."""
        return self.coding not in _SIXTEEN_BITS


def open_sound(path: str | os.PathLike[str]) -> Sound:
    """Decode the whole file.

    Raises MediaError for a file that is not a sound, is damaged or truncated, has infinite or NaN samples, or would
    decode to more than MIN_SAMPLE_LIMIT samples and more than MAX_SAMPLES_PER_BYTE times its size.
    """
    content = read_bytes(path)
    if containers.is_truncated(content):
        raise MediaError(path, "is truncated: its header states more data than the file has")
    if (empty := containers.read_empty_flac(content)) is not None:
        return Sound(np.zeros((0, empty[1]), np.int16), empty[0], "PCM_16")
    try:
        sound, num_frames = _decode(containers.close_wav(content))
    except soundfile.LibsndfileError as error:
        raise MediaError(path, plain_reason(error)) from error
    except ValueError as error:
        raise MediaError(path, str(error)) from error
    if len(sound.samples) < num_frames and _UNKNOWN_LENGTH not in sound.notes:
        raise MediaError(path, f"is truncated: it has {len(sound.samples)} of {num_frames} frames")
    if not np.isfinite(sound.samples).all():
        raise MediaError(path, "has infinite or NaN samples")
    return sound


def _decode(content: bytes) -> tuple[Sound, int]:
    """Return the sound and the number of frames that the file states. Raises ValueError for unsupported files."""
    with soundfile.SoundFile(_Content(content)) as file:
        if file.format not in _CONTAINERS:
            raise ValueError(f"is {file.format_info}; supported are WAV, AIFF, FLAC, Ogg and MP3 files")
        if not file.seekable():  # GSM, G.72x: libsndfile does not know where their last block ends
            raise ValueError(f"is coded as {file.subtype_info}, which is not supported; convert it to 16 bits first")
        if file.frames > len(content) << 16:  # FLAC and Ogg streams with an open end; libsndfile cannot read them
            raise ValueError("states no plausible length; convert it to WAV first")
        if file.frames * file.channels > max(MIN_SAMPLE_LIMIT, MAX_SAMPLES_PER_BYTE * len(content)):
            size = f"{file.frames} frames of {file.channels} channels in {len(content)} bytes"
            raise ValueError(f"is too large to be decoded safely: {size}; convert it to WAV first")
        kind = "int16" if file.subtype in _SIXTEEN_BITS else "float64"
        samples = file.read(dtype=kind, always_2d=True)
        if samples.dtype == np.float64:
            with np.errstate(over="ignore"):  # the largest numbers of damaged files become infinite, and are refused
                samples *= 32768
        return Sound(samples, file.samplerate, file.subtype, _notes(content, file.format)), file.frames


def _notes(content: bytes, kind: str) -> tuple[str, ...]:
    if kind == "MP3" and not containers.states_length(content):
        return (_UNKNOWN_LENGTH,)
    return ("data after its samples was ignored: its header may be wrong",) * containers.has_trailing_data(content)
