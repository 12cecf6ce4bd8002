"""The neighbours of a sample's bytes, and guesses of a byte from the samples before it on the same channel.

The guesses are those of lossless sound coders: the polynomials through the last samples (Shorten's and FLAC's fixed
predictors), and one between the first two.
"""

from __future__ import annotations

from data_adapters.neighbourhood import Neighbourhood, Predictor

Step = tuple[int, int, int]
Polynomial = tuple[tuple[int, ...], int]
POLYNOMIALS: tuple[Polynomial, ...] = (((1,), 1), ((3, -1), 2), ((2, -1), 1), ((3, -3, 1), 1), ((4, -6, 4, -1), 1))
"""Weights of the samples before, latest first, and their divisor."""
SAMPLES = 4
BYTE = 256


def one_byte(channels: int) -> Neighbourhood:
    """The neighbourhood of samples of one byte, whose codes rise with the sample."""
    steps = _same_channel(channels) + _other_channels(channels)
    predictors = tuple(Predictor(weights, divisor) for weights, divisor in POLYNOMIALS)
    return Neighbourhood(1, 0, 1, steps, predictors, ())


def two_bytes(channels: int, high_first: bool) -> Neighbourhood:
    """The neighbourhood of 16-bit samples in two's complement, with the high or the low byte first."""
    first_byte: Step = (0, 0, -1)
    steps = (*_same_channel(channels), *_same_channel(channels, byte=1), first_byte, *_other_channels(channels))
    predictors = tuple(
        predictor for polynomial in POLYNOMIALS for predictor in _predictors_of_halves(*polynomial, high_first)
    )
    return Neighbourhood(2, 0, 1, steps, predictors, ())


def _same_channel(channels: int, byte: int = 0) -> tuple[Step, ...]:
    """Steps to the same byte, or with `byte` 1 to the other one, of the samples before on the same channel."""
    return tuple((0, -back * channels, byte) for back in range(1, SAMPLES + 1))


def _other_channels(channels: int) -> tuple[Step, ...]:
    """Steps to the same byte of the last sample on each other channel."""
    return tuple((0, -back, 0) for back in range(1, channels))


def _predictors_of_halves(weights: tuple[int, ...], divisor: int, high_first: bool) -> tuple[Predictor, ...]:
    """The guesses of both bytes of a sample; that of the second knows the first.

    Without the sign of the high bytes, a sum would be known modulo 2^16 only, and half of it not at all.
    """
    missing = (0,) * (SAMPLES - len(weights))
    high = (*(BYTE * weight for weight in weights), *missing)
    low = (*weights, *missing)
    wrap = BYTE**2 * divisor
    same, other = tuple(range(SAMPLES)), tuple(range(SAMPLES, 2 * SAMPLES))
    if high_first:
        first = Predictor((*high, *low), BYTE * divisor, byte=0, wrap=wrap, modulo=True, signed=same)
        # What the high byte leaves to the low one, limited to what that can be.
        second = Predictor((*low, *high, -BYTE * divisor), divisor, byte=1, wrap=wrap, signed=other)
        return first, second
    first = Predictor((*low, *high), divisor, byte=0, wrap=wrap, modulo=True, signed=other)
    nearest = BYTE * divisor // 2
    second = Predictor((*high, *low, -divisor), BYTE * divisor, nearest, byte=1, wrap=wrap, modulo=True, signed=same)
    return first, second
