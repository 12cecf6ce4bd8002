"""Decoded sound to encoded bytes, block by block: channels mixed, resampled, rounded to 16 bits, encoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from data_adapters.audio.decoding import MAX_SAMPLES_PER_BYTE, MIN_SAMPLE_LIMIT, Sound
from data_adapters.audio.encoding import Encoding, Samples, Steps, decode, encode, to_int16
from data_adapters.base import Bytes

_CANCELLED = 0.01
"""Share of the channels' energy below which their mean counts as cancelled."""

_Block = Samples | Steps


def convert(sound: Sound, rate: int, channels: int, encoding: Encoding) -> tuple[Bytes, tuple[str, ...]]:
    """Return the sound in another format, and notes of what was changed: those of the sound, then these.

    Only the result is held whole: (frames * channels * bytes per sample,) uint8. Raises ValueError for channels that
    cannot be mixed, and for a rate that would make the sound too large.
    """
    mixing = _Mixing(sound.header.channels, channels)
    _check_rate(sound, rate, channels)
    blocks: Iterable[_Block] = map(mixing.apply, sound.blocks())
    if rate != sound.header.rate:
        blocks = _resample(blocks, sound.header.rate, rate, channels)
    rounding = _Rounding(sound)
    data, is_coarse = bytearray(), False
    for block in blocks:
        samples = rounding.apply(block)
        codes = encode(samples, encoding)
        is_coarse = is_coarse or not np.array_equal(decode(codes, encoding), samples.reshape(-1))
        data += codes.tobytes()
    notes = [*sound.notes, *mixing.notes()]
    if rate != sound.header.rate:
        notes.append(f"resampled from {sound.header.rate} to {rate} Hz")
    notes += rounding.notes()
    if is_coarse:
        notes.append(f"samples rounded to the 256 levels of {encoding}")
    return np.frombuffer(data, np.uint8), tuple(notes)


class _Mixing:
    """Convert the number of channels, comparing the energy of a mean with that of its channels.

    Raises ValueError except from 1 or to 1.
    """

    def __init__(self, count: int, channels: int) -> None:
        if channels not in (1, count) and count != 1:
            raise ValueError(f"has {count} channels, which can be mixed down to 1 but not to {channels}")
        self._count, self._channels = count, channels
        self._energy = self._mean_energy = 0.0

    def apply(self, block: _Block) -> _Block:
        if self._channels == self._count:
            return block
        if self._count == 1:
            return block.repeat(self._channels, axis=1)
        with np.errstate(over="ignore"):  # the largest samples are clipped below
            mean: Steps = block.mean(axis=1, keepdims=True)
            self._energy += float(np.square(block, dtype=np.float64).sum()) / self._count
            self._mean_energy += float(np.square(mean).sum())
        return mean

    def notes(self) -> list[str]:
        if self._channels == self._count:
            return []
        if self._count == 1:
            return [f"one channel copied to {self._channels}"]
        notes = [f"{self._count} channels mixed down to their mean"]
        if self._mean_energy < _CANCELLED * self._energy:
            notes.append("the channels cancel each other: their mean is nearly silent")
        return notes


class _Rounding:
    """Round to int16, counting the samples that are clipped."""

    def __init__(self, sound: Sound) -> None:
        self._sound = sound
        self._is_rounded, self._num_clipped, self._num_samples = False, 0, 0

    def apply(self, block: _Block) -> Samples:
        self._num_samples += block.size
        if block.dtype == np.int16:
            return block.astype(np.int16, copy=False)
        samples, num_clipped = to_int16(block.astype(np.float64, copy=False))
        self._num_clipped += num_clipped
        self._is_rounded = self._is_rounded or (self._sound.is_finer and not np.array_equal(samples, block))
        return samples

    def notes(self) -> list[str]:
        notes = [f"{self._sound.header.coding_name} samples rounded to 16 bits"] if self._is_rounded else []
        if self._num_clipped:
            notes.append(f"{self._num_clipped} of {self._num_samples} samples clipped")
        return notes


def _check_rate(sound: Sound, rate: int, channels: int) -> None:
    own_rate = sound.header.rate
    if rate > MAX_SAMPLES_PER_BYTE * own_rate and sound.num_frames * channels * rate > MIN_SAMPLE_LIMIT * own_rate:
        raise ValueError(f"states a rate of {own_rate} Hz; resampled to {rate} Hz it would be too large")


def _resample(blocks: Iterable[_Block], own_rate: int, rate: int, channels: int) -> Iterator[Steps]:
    """Resample by soxr's stream, which gives the samples of the whole sound at once, bit for bit."""
    stream = soxr.ResampleStream(own_rate, rate, channels, "float64", quality="VHQ")
    for block in blocks:
        yield stream.resample_chunk(np.ascontiguousarray(block, np.float64))
    yield stream.resample_chunk(np.zeros((0, channels)), last=True)
