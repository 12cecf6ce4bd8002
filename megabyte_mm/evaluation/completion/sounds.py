"""How close a continued sound is to the original: loudness and pitch after the cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]
Floats = NDArray[np.float64]

FULL_SCALE = 32768
FRAME_SECONDS, HOP_SECONDS = 0.05, 0.025
LOWEST_HZ, HIGHEST_HZ = 60.0, 1000.0
"""Pitches that are looked for: those of voices and of most melodies."""
SILENCE_DB = -60.0
"""Frames below this level have no pitch."""
PERIODIC = 0.6
"""Autocorrelation at a period, of 1, from which on a frame has a pitch."""
IN_TUNE = 0.5
"""Semitones by which two pitches that count as equal may differ."""


@dataclass(frozen=True)
class SoundFigures:
    """What was generated of a sound against the same time of the original.

    energy_change, original_energy_change: level after the cut minus level before it, in dB; nan without either side.
    semitones: by which the median pitch is off, inf where only the original has one, nan where it has none.
    frames_in_tune: share of the original's frames with a pitch in which that of the continuation is equal; nan where
    there are none.
    """

    energy_change: float
    original_energy_change: float
    semitones: float
    frames_in_tune: float

    @property
    def energy_error(self) -> float:
        """Level of the continuation minus that of the original, in dB."""
        return self.energy_change - self.original_energy_change


def sound_figures(original_TC: Samples, continued_TC: Samples, cut: int, rate: int) -> SoundFigures:
    """Compare a continued sound with the original, both (T, C) int16, from frame `cut` to the end of the shorter one.

    rate: frames a second.
    """
    end = min(len(original_TC), len(continued_TC))
    before = level(original_TC[:cut])
    original, continued = original_TC[cut:end], continued_TC[cut:end]
    pitches, other_pitches = pitch_track(original, rate), pitch_track(continued, rate)
    return SoundFigures(
        level(continued) - before,
        level(original) - before,
        semitones_off(pitches, other_pitches),
        frames_in_tune(pitches, other_pitches),
    )


def level(samples_TC: Samples) -> float:
    """Return the root mean square in dB of full scale; that of silence is one 16-bit step, of no samples nan."""
    if not samples_TC.size:
        return np.nan
    rms = np.sqrt(np.mean(samples_TC.astype(np.float64) ** 2))
    return float(20 * np.log10(max(rms, 1.0) / FULL_SCALE))


def semitones_off(original_N: Floats, continued_N: Floats) -> float:
    """Return the distance of the median pitches in semitones; inf where only the original has one, nan for neither."""
    original, continued = (pitches[~np.isnan(pitches)] for pitches in (original_N, continued_N))
    if not original.size:
        return np.nan
    return float(abs(12 * np.log2(np.median(continued) / np.median(original)))) if continued.size else np.inf


def frames_in_tune(original_N: Floats, continued_N: Floats) -> float:
    """Return the share of the original's frames with a pitch in which both pitches are equal; nan without any."""
    has_pitch = ~np.isnan(original_N)
    if not has_pitch.any():
        return np.nan
    semitones = np.abs(12 * np.log2(continued_N[has_pitch] / original_N[has_pitch]))
    return float((semitones <= IN_TUNE).mean())  # a frame without a pitch is nan, and not in tune


def pitch_track(samples_TC: Samples, rate: int) -> Floats:
    """Return the pitch of each frame of the channels' mean in Hz, (N,); nan for silence and noise.

    samples: (T, C) int16. A frame has FRAME_SECONDS, and begins HOP_SECONDS after the one before. A sound shorter than
    a frame has none.
    """
    mono_T = samples_TC.mean(axis=1) if samples_TC.size else np.empty(0)
    size, hop = round(FRAME_SECONDS * rate), max(1, round(HOP_SECONDS * rate))
    starts = range(0, len(mono_T) - size + 1, hop)
    return np.array([_pitch(mono_T[start : start + size], rate) for start in starts], dtype=np.float64)


def _pitch(frame_T: Floats, rate: int) -> float:
    """Return the pitch of a frame by its autocorrelation, nan where it has none."""
    centred_T = frame_T - frame_T.mean()
    if 20 * np.log10(max(centred_T.std(), 1e-9) / FULL_SCALE) < SILENCE_DB:
        return np.nan
    correlation_L = _autocorrelation(centred_T)
    shortest, longest = max(2, int(rate / HIGHEST_HZ)), min(int(rate / LOWEST_HZ) + 1, len(correlation_L) - 2)
    lags = np.arange(shortest, longest + 1)
    values = correlation_L[lags]
    peaks = lags[(values >= correlation_L[lags - 1]) & (values > correlation_L[lags + 1]) & (values >= PERIODIC)]
    if not peaks.size:
        return np.nan
    # A sound repeats after two periods as well: the first peak that is nearly as high as the highest is one period.
    first = int(peaks[correlation_L[peaks] >= 0.9 * correlation_L[peaks].max()][0])
    left, top, right = correlation_L[first - 1 : first + 2]
    return float(rate / (first + 0.5 * (left - right) / (left - 2 * top + right)))


def _autocorrelation(frame_T: Floats) -> Floats:
    """Return the correlation of a frame with itself at each lag below two thirds of it, -1 to 1."""
    size = len(frame_T)
    lags = np.arange(size * 2 // 3)
    spectrum = np.fft.rfft(frame_T, 2 * size)
    products_L = np.fft.irfft(np.abs(spectrum) ** 2)[lags]
    energy = np.concatenate([[0.0], np.cumsum(frame_T**2)])
    head_L, tail_L = energy[size - lags], energy[size] - energy[lags]
    correlation: Floats = products_L / np.maximum(np.sqrt(head_L * tail_L), 1e-9)
    return correlation
