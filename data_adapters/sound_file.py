"""Decodes sound files for `AudioAdapter`: whole or not at all."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass

import numpy as np
import soundfile

from data_adapters import sound_container
from data_adapters.base import MediaError, read_bytes
from data_adapters.sound_samples import Samples, Steps

_SIXTEEN_BITS = ("PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610")
"""libsndfile's names of the codings whose samples are numbers of at most 16 bits."""


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

    Raises MediaError for what is no sound, is damaged or cut short, or has samples that are infinite or no numbers.
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
    if len(sound.samples) < promised and not sound.notes:
        raise MediaError(path, f"is cut short: it has {len(sound.samples)} of {promised} frames")
    if not np.isfinite(sound.samples).all():
        raise MediaError(path, "has samples that are infinite or not numbers")
    return sound


def _decoded(content: bytes) -> tuple[Sound, int]:
    """The sound, and the number of frames that the file says it has."""
    with soundfile.SoundFile(_Content(content)) as file:
        if file.frames > len(content) << 16:  # FLAC and Ogg streams with an open end; libsndfile cannot read them
            raise ValueError("says nothing believable about its length; convert it to WAV first")
        samples = file.read(dtype="int16" if file.subtype in _SIXTEEN_BITS else "float64", always_2d=True)
        if samples.dtype == np.float64:
            samples *= 32768
        estimated = file.format == "MP3" and not sound_container.states_length(content)
        notes = ("an MP3 file that does not say its length: the end may be missing",) if estimated else ()
        return Sound(samples, file.samplerate, file.subtype, notes), file.frames
