"""Decodes sound files for `AudioAdapter`: whole or not at all."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass

import numpy as np
import soundfile

from data_adapters.audio import containers as sound_container
from data_adapters.audio.encoding import Samples, Steps
from data_adapters.base import MediaError
from data_adapters.io import read_bytes

_SIXTEEN_BITS = ("PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM")
"""libsndfile's names of the codings whose samples are numbers of at most 16 bits."""

_UNSTATED = "an MP3 file that does not say its length: the end may be missing"

_CONTAINERS = ("WAV", "WAVEX", "RF64", "AIFF", "FLAC", "OGG", "MP3")
"""libsndfile's names of those in which a missing end is found."""

FREE_SAMPLES = 2**26
"""What any file may decode to, however small it is: 25 minutes at 44.1 kHz."""
SAMPLES_PER_BYTE = 64
"""What a file may decode to beyond that. Opus speech, the tightest that is common, comes to 30."""


class _Content(io.BytesIO):
    """Stays at its start where libsndfile, reading damaged headers, seeks before it: its callbacks must not raise."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return super().seek(0)


@dataclass(frozen=True)
class Sound:
    """A decoded file.

    samples: (T, C) int16 where the file holds nothing finer, else float64 in steps of 16-bit sound (full scale 32768).
    rate: frames a second. coding: libsndfile's name for it ("PCM_24", "VORBIS"). notes: what a user should hear of.
    """

    samples: Samples | Steps
    rate: int
    coding: str
    notes: tuple[str, ...] = ()

    @property
    def is_finer(self) -> bool:
        """Whether the file's own samples had more than 16 bits."""
        return self.coding not in _SIXTEEN_BITS


def open_sound(path: str | os.PathLike[str]) -> Sound:
    """The whole sound of a file.

    Raises MediaError for what is no sound, is damaged or cut short, has samples that are infinite or no numbers, or
    would decode to more than FREE_SAMPLES and more than SAMPLES_PER_BYTE times its size.
    """
    content = read_bytes(path)
    if sound_container.is_cut_short(content):
        raise MediaError(path, "is cut short: its header promises more than there is")
    if (empty := sound_container.read_empty_flac(content)) is not None:
        return Sound(np.zeros((0, empty[1]), np.int16), empty[0], "PCM_16")
    try:
        sound, promised = _decoded(sound_container.close_wav(content))
    except soundfile.LibsndfileError as error:
        raise MediaError(path, f"cannot be decoded: {error.error_string}") from error
    except ValueError as error:
        raise MediaError(path, str(error)) from error
    if len(sound.samples) < promised and _UNSTATED not in sound.notes:
        raise MediaError(path, f"is cut short: it has {len(sound.samples)} of {promised} frames")
    if not np.isfinite(sound.samples).all():
        raise MediaError(path, "has samples that are infinite or not numbers")
    return sound


def _decoded(content: bytes) -> tuple[Sound, int]:
    """The sound, and the number of frames that the file says it has."""
    with soundfile.SoundFile(_Content(content)) as file:
        if file.format not in _CONTAINERS:
            raise ValueError(f"is {file.format_info}; sound is read from WAV, AIFF, FLAC, Ogg and MP3 files")
        if not file.seekable():  # GSM, G.72x: libsndfile cannot tell where the last of their blocks ends
            raise ValueError(f"is coded as {file.subtype_info}, which cannot be read; convert it to 16 bits first")
        if file.frames > len(content) << 16:  # FLAC and Ogg streams with an open end; libsndfile cannot read them
            raise ValueError("says nothing believable about its length; convert it to WAV first")
        if file.frames * file.channels > max(FREE_SAMPLES, SAMPLES_PER_BYTE * len(content)):
            size = f"{file.frames} frames of {file.channels} channels in {len(content)} bytes"
            raise ValueError(f"is too large to be decoded safely: {size}; convert it to WAV first")
        kind = "int16" if file.subtype in _SIXTEEN_BITS else "float64"
        samples = file.read(dtype=kind, always_2d=True)
        if samples.dtype == np.float64:
            samples *= 32768
        return Sound(samples, file.samplerate, file.subtype, _notes(content, file.format)), file.frames


def _notes(content: bytes, kind: str) -> tuple[str, ...]:
    if kind == "MP3" and not sound_container.states_length(content):
        return (_UNSTATED,)
    return ("something after its samples was left out: its header may be wrong",) * sound_container.has_more(content)
