import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_adapters.audio.encoding import MULAW_LEVELS, decode, encode, to_int16

ALL_CODES = np.arange(256, dtype=np.uint8)
ALL_SAMPLES = np.arange(-32768, 32768).astype(np.int16)


@pytest.mark.parametrize("encoding", ["pcm8", "mulaw"])
def test_every_code_is_the_code_of_its_decoded_sample(encoding):
    np.testing.assert_array_equal(encode(decode(ALL_CODES, encoding), encoding), ALL_CODES)


def test_pcm16be_is_exact_and_big_endian():
    np.testing.assert_array_equal(decode(encode(ALL_SAMPLES, "pcm16be"), "pcm16be"), ALL_SAMPLES)
    assert encode(np.array([1, -2, 0x1234], np.int16), "pcm16be").tobytes() == bytes([0, 1, 0xFF, 0xFE, 0x12, 0x34])


def test_pcm16_is_exact_and_little_endian():
    np.testing.assert_array_equal(decode(encode(ALL_SAMPLES, "pcm16"), "pcm16"), ALL_SAMPLES)
    assert encode(np.array([1, -2, 0x1234], np.int16), "pcm16").tobytes() == bytes([1, 0, 0xFE, 0xFF, 0x34, 0x12])


@pytest.mark.parametrize("encoding", ["pcm8", "mulaw"])
def test_louder_samples_never_get_a_lower_code(encoding):
    codes = encode(ALL_SAMPLES, encoding).astype(int)
    assert (np.diff(codes) >= 0).all()
    assert (codes[0], codes[32768], codes[-1]) == (0, 128, 255)


@pytest.mark.parametrize("encoding", ["pcm8", "mulaw"])
def test_the_code_is_that_of_the_nearest_level(encoding):
    levels = decode(ALL_CODES, encoding).astype(int)
    some = ALL_SAMPLES[::37].astype(int)
    distance = np.abs(decode(encode(some.astype(np.int16), encoding), encoding) - some)
    np.testing.assert_array_equal(distance, np.abs(levels[:, None] - some).min(axis=0))


def test_mulaw_follows_the_law_and_is_symmetric():
    levels = MULAW_LEVELS.astype(int)
    np.testing.assert_array_equal(levels[1:128], -levels[:128:-1])
    loudness = np.log1p(255 * levels[128:] / 32767) / np.log(256)
    np.testing.assert_allclose(loudness, np.arange(128) / 127, atol=2e-3)


def test_8_bit_levels_rise_by_256():
    assert decode(np.array([0, 127, 128, 255], np.uint8), "pcm8").tolist() == [-32768, -256, 0, 32512]
    assert encode(np.array([-129, -128, 127, 128, 32767], np.int16), "pcm8").tolist() == [127, 128, 128, 129, 255]


def test_fractions_are_rounded_to_the_nearest_and_ties_to_even():
    samples, clipped = to_int16(np.array([0.4, 0.5, 1.5, -0.5, -1.6, 32767.4, -32768.5]))
    assert (samples.tolist(), clipped) == ([0, 0, 2, 0, -2, 32767, -32768], 0)


def test_samples_outside_the_range_are_clipped_and_counted():
    samples, clipped = to_int16(np.array([[32768.0, -32769.0], [1e9, 5.0]]))
    assert (samples.tolist(), clipped) == ([[32767, -32768], [32767, 5]], 3)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-32768, 32767), max_size=20), st.sampled_from(["pcm16", "pcm16be", "pcm8", "mulaw"]))
def test_encoding_again_changes_nothing(samples, encoding):
    data = encode(np.array(samples, np.int16), encoding)
    np.testing.assert_array_equal(encode(decode(data, encoding), encoding), data)
