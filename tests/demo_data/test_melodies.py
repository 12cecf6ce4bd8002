"""Melodies: whole periods, a fixed time grid, 8-bit values."""

import numpy as np
import pytest

from megabyte_mm.demo_data.melodies import PERIODS, RATE, STEP, VOICES, Melody, make_melodies, render


def test_a_melody_has_four_bars_of_eight_steps_and_fits_into_eight_bits():
    for melody in make_melodies(20, np.random.default_rng(0)):
        sound = render(melody)
        assert sound.dtype == np.int16
        assert sound.shape == (32 * STEP,)
        assert not np.any(sound % 256)
        assert 4 < len(sound) / RATE < 6


def test_melodies_differ():
    melodies = make_melodies(100, np.random.default_rng(0))
    assert len({render(melody).tobytes() for melody in melodies}) == 100


@pytest.mark.parametrize("voice", VOICES)
@pytest.mark.parametrize("pitch", range(len(PERIODS)))
def test_a_note_is_periodic_and_centred_on_zero(voice, pitch):
    note = render(Melody(voice, ((pitch, 1),))).astype(int)
    period = PERIODS[pitch]
    assert STEP % period == 0
    np.testing.assert_array_equal(note[:period], note[period : 2 * period])
    assert abs(note[: STEP // 2].mean()) <= 64 * 256 / period
    assert max(note) == -min(note) <= 64 * 256
