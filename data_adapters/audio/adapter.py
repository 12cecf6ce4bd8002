"""Sound as the bytes of its samples."""

from __future__ import annotations

import io
import os
from typing import Any, ClassVar, Literal, get_args

import soundfile

from data_adapters.audio.conversion import convert
from data_adapters.audio.decoding import open_sound
from data_adapters.audio.encoding import BYTES_PER_SAMPLE, Encoding, Samples, decode
from data_adapters.audio.flac import empty_flac
from data_adapters.audio.neighbourhood import one_byte, two_bytes
from data_adapters.base import Adapter, ByteStream, Format, MediaError, check_int
from data_adapters.io import write_bytes
from data_adapters.neighbourhood import Neighbourhood

Container = Literal["wav", "flac"]


class AudioAdapter(Adapter):
    """Sound as its interleaved samples: frame by frame, in each frame channel by channel.

    16-bit files survive "pcm16" and "pcm16be", and 8-bit files "pcm8", bit for bit, unless they must be resampled or
    mixed. Finer samples are rounded to the nearest 16-bit step (ties to even), those beyond the range are clipped; the
    stream's notes report rounding, clipping, mixing and resampling. The model's patch size should be a multiple of a
    frame.

    Args:
        rate: Frames a second that every sound is resampled to (soxr, very high quality). By default each file keeps its
            own.
        channels: Channels that every sound is converted to: mixed down to 1 by their mean, or 1 copied to all. By
            default each file keeps its own.
        encoding: "pcm16" takes two bytes a sample (exact, little-endian), "pcm16be" too (big-endian), "pcm8" one
            (linear), "mulaw" one (finer for soft sounds).
        container: Format of written files: "wav" or "flac".
    """

    name = "audio"
    suffixes: ClassVar[tuple[str, ...]] = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc")

    def __init__(
        self,
        rate: int | None = None,
        channels: int | None = None,
        encoding: Encoding = "pcm16",
        container: Container = "wav",
    ) -> None:
        check_int(rate=rate, channels=channels)
        for field, count in (("rate", rate), ("channels", channels)):
            if count is not None and count < 1:
                raise ValueError(f"{field} must be at least 1, not {count}")
        for field, value, options in (("encoding", encoding, Encoding), ("container", container, Container)):
            if value not in get_args(options):
                raise ValueError(f"{field} must be one of {', '.join(get_args(options))}, not {value!r}")
        self.rate, self.channels, self.encoding, self.container = rate, channels, encoding, container

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        return {
            "rate": self.rate,
            "channels": self.channels,
            "encoding": self.encoding,
            "container": self.container,
        }

    def read(self, path: str | os.PathLike[str]) -> ByteStream:
        """Return the sound's samples, (frames * channels * bytes per sample,) uint8; empty for a sound of length 0.

        Raises MediaError for a file that is not a sound, is damaged or truncated, has NaN samples, or has channels that
        cannot be mixed to the setting.
        """
        with open_sound(path) as sound:
            rate, channels = self.rate or sound.header.rate, self.channels or sound.header.channels
            data, notes = convert(sound, rate, channels, self.encoding)
        return ByteStream(data, self._format(rate, channels), notes)

    def write(self, stream: ByteStream, path: str | os.PathLike[str]) -> None:
        """Write a WAV or FLAC file of 8 bits (pcm8) or 16 bits; an incomplete last frame is dropped.

        Raises MediaError where the container cannot hold the stream's rate or channels.
        """
        self.check_modality(stream)
        try:
            content = _encode_file(self.frames(stream), stream, self.container)
        except soundfile.LibsndfileError as error:
            shape = f"{stream.format['channels']} channels at {stream.format['rate']} Hz"
            raise MediaError(path, f"cannot be written: {self.container} files do not support {shape}") from error
        write_bytes(path, content)

    def frames(self, stream: ByteStream) -> Samples:
        """Return the stream's complete frames as (T, C) int16."""
        channels, encoding = int(stream.format["channels"]), _encoding(stream)
        end = len(stream.data) - len(stream.data) % (channels * BYTES_PER_SAMPLE[encoding])
        return decode(stream.data[:end], encoding).reshape(-1, channels)

    @property
    def output_suffix(self) -> str:
        """Suffix of the container, ".wav" or ".flac"."""
        return f".{self.container}"

    def default_format(self) -> Format:
        """Sound of the `rate` and `channels` settings. Raises ValueError where one of them is None."""
        if self.rate is None or self.channels is None:
            raise ValueError("sound without a prefix needs a rate and channels; set both in the audio adapter")
        return self._format(self.rate, self.channels)

    @property
    def unit(self) -> int:
        """A frame, that is one sample of every channel; a single sample where `channels` is None."""
        return BYTES_PER_SAMPLE[self.encoding] * (self.channels or 1)

    def unit_in(self, format: Format) -> int:
        """A frame of the format's channels."""
        return BYTES_PER_SAMPLE[str(format["encoding"])] * int(format["channels"])

    @property
    def neighbourhood(self) -> Neighbourhood:
        """The samples before on the same channel, and those of other channels; of one channel, if each has its own."""
        channels = self.channels or 1
        if BYTES_PER_SAMPLE[self.encoding] == 1:
            return one_byte(channels)
        return two_bytes(channels, high_first=self.encoding == "pcm16be")

    def _format(self, rate: int, channels: int) -> Format:
        return {"modality": self.name, "rate": rate, "channels": channels, "encoding": self.encoding}


def _encode_file(samples: Samples, stream: ByteStream, container: Container) -> bytes:
    """Return the content of a sound file."""
    rate, eight_bits = int(stream.format["rate"]), _encoding(stream) == "pcm8"
    subtype = {"wav": "PCM_U8", "flac": "PCM_S8"}[container] if eight_bits else "PCM_16"
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container.upper(), subtype=subtype)
    if container == "flac" and not len(samples):
        return empty_flac(rate, samples.shape[1], 8 if eight_bits else 16)
    return file.getvalue()


def _encoding(stream: ByteStream) -> Encoding:
    encoding: Encoding = stream.format["encoding"]  # type: ignore[assignment]
    return encoding
