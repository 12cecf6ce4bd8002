"""Short melodies in the style of early games consoles: three waveforms, one scale, a fixed time grid.

They can be learned in minutes: each period is a whole number of samples, each note lasts a whole number of periods,
loudness falls in steps, and each sample fits into 8 bits, so that 8-bit encodings are lossless.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

RATE = 8000
PERIODS = (36, 30, 27, 24, 20, 18)  # samples: A minor pentatonic of just ratios, 222 to 444 Hz
NAMES = ("a3", "c4", "d4", "e4", "g4", "a4")
STEP = 1080  # samples, the least common multiple of PERIODS: 0.135 s
TUNE_RHYTHMS = ((2, 2, 3), (4, 3), (2, 1, 2, 2), (1, 1, 2, 3), (2, 2, 1, 2), (3, 2, 2), (1, 2, 1, 1, 2))
RHYTHMS = ((2, 2, 2, 2), (4, 2, 2), (2, 2, 4), (4, 4), (2, 4, 2), (2, 1, 1, 4), (4, 2, 1, 1))
VOICES = ("pulse", "triangle", "sine")
FADE = STEP // 2  # samples between two levels of loudness
LOUDEST, QUIETEST, LEVEL = 8, 1, 8  # amplitude is loudness x LEVEL, out of 127

Note = tuple[int, int]


@dataclass(frozen=True)
class Melody:
    """A voice of VOICES and its notes, each an index into PERIODS and a length in STEPs."""

    voice: str
    notes: tuple[Note, ...]

    @property
    def text(self) -> str:
        """The names of the notes, without their lengths: `c4 e4 g4`."""
        return " ".join(NAMES[pitch] for pitch, _ in self.notes)


def make_melodies(count: int, rng: np.random.Generator) -> list[Melody]:
    """Compose `count` different melodies of four bars."""
    return _different(count, lambda: _compose(rng))


def make_tunes(count: int, rng: np.random.Generator) -> list[Melody]:
    """Compose `count` different melodies of two to five notes, 0.945 s each."""
    return _different(count, lambda: Melody(_voice(rng), tuple(_bar(rng, TUNE_RHYTHMS))))


def _different(count: int, compose: Callable[[], Melody]) -> list[Melody]:
    melodies: dict[Melody, None] = {}
    while len(melodies) < count:
        melodies[compose()] = None
    return list(melodies)


def render(melody: Melody) -> NDArray[np.int16]:
    """Return the sound of a melody: (samples,) int16 at RATE, all multiples of 256."""
    sound = np.concatenate([_sound(melody.voice, PERIODS[pitch], steps) for pitch, steps in melody.notes])
    return (sound * 256).astype(np.int16)


def _compose(rng: np.random.Generator) -> Melody:
    """A theme, the theme again, an answer, the theme."""
    voice = _voice(rng)
    theme, answer = _bar(rng, RHYTHMS), _bar(rng, RHYTHMS)
    return Melody(voice, tuple(chain(theme, theme, answer, theme)))


def _voice(rng: np.random.Generator) -> str:
    return VOICES[rng.integers(len(VOICES))]


def _bar(rng: np.random.Generator, rhythms: tuple[tuple[int, ...], ...]) -> list[Note]:
    """One rhythm on neighbouring notes of the scale, reflected at its ends."""
    rhythm = rhythms[rng.integers(len(rhythms))]
    walk = rng.integers(len(PERIODS)) + np.cumsum(rng.choice((-2, -1, 1, 2), size=len(rhythm)))
    top = len(PERIODS) - 1
    return [(int(top - abs(pitch % (2 * top) - top)), steps) for pitch, steps in zip(walk, rhythm, strict=True)]


def _sound(voice: str, period: int, steps: int) -> NDArray[np.int64]:
    """A note as integers from -64 to 64: waveform times loudness."""
    time = np.arange(steps * STEP)
    loudness = np.maximum(LOUDEST - time // FADE, QUIETEST)
    return np.rint(LEVEL * loudness * _waveform(voice, time % period / period)).astype(np.int64)


def _waveform(voice: str, phase: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values from -1 to 1 at phases from 0 to 1 of the period."""
    if voice == "pulse":
        return np.where(phase < 0.5, 1.0, -1.0)
    if voice == "triangle":
        return 1 - 4 * abs((phase + 0.25) % 1 - 0.5)
    return np.sin(2 * np.pi * phase)
