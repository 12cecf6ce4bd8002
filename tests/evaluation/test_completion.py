"""Figures of completions, on pictures, sounds and texts whose answers are known."""

import math

import numpy as np
import pytest

from data_adapters import AudioAdapter, FileAdapter, ImageAdapter, TextAdapter
from megabyte_mm.demo_data.melodies import PERIODS, RATE, Melody, render
from megabyte_mm.demo_data.pictures import CLASSES, GROUNDS, make_pictures
from megabyte_mm.evaluation.completion import (
    PictureFigures,
    SoundFigures,
    TextFigures,
    completion_figures,
    fit_background,
    generated_pixels,
    picture_figures,
    sound_figures,
    summary,
    text_figures,
    words,
)
from megabyte_mm.evaluation.completion.pictures import is_even, shape_mask
from megabyte_mm.evaluation.completion.sounds import level, pitch_track

LOWER = np.arange(8)[:, None].repeat(8, axis=1) >= 4
NOWHERE = np.zeros((8, 8), dtype=bool)


def square(rows, columns, ink=200, ground=10):
    """An 8 x 8 grey picture of a rectangle."""
    pixels = np.full((8, 8, 1), ground, np.uint8)
    pixels[rows, columns] = ink
    return pixels


ORIGINAL = square(slice(2, 6), slice(2, 6))


def tone(hertz, seconds=0.5, amplitude=8000, rate=RATE):
    return np.rint(amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.int16)


# Pictures


@pytest.mark.parametrize(
    ("completed", "figures"),
    [
        (ORIGINAL, (1.0, 1.0)),
        (square(slice(2, 6), slice(3, 7)), (28 / 32, 6 / 10)),
        (square(slice(2, 4), slice(2, 6)), (24 / 32, 0.0)),
        (square(slice(2, 6), slice(2, 6), ink=120), (24 / 32, 1.0)),
        (square(slice(2, 6), slice(2, 6), ink=200 + 23), (1.0, 1.0)),
        (square(slice(2, 6), slice(2, 6), ink=200 + 24), (24 / 32, 1.0)),
    ],
    ids=["equal", "shifted", "without a shape", "another ink", "just right", "just wrong"],
)
def test_pixels_and_shape_of_the_generated_part(completed, figures):
    found = picture_figures(ORIGINAL, completed, LOWER)
    assert (found.pixels_right, found.shape_iou) == pytest.approx(figures)


def test_what_lies_in_the_prefix_does_not_count():
    completed = ORIGINAL.copy()
    completed[:4] = 99
    assert picture_figures(ORIGINAL, completed, LOWER) == PictureFigures(1.0, 1.0)


def test_a_picture_of_no_generated_pixel_has_no_figures():
    figures = picture_figures(ORIGINAL, ORIGINAL, NOWHERE)
    assert math.isnan(figures.pixels_right)
    assert math.isnan(figures.shape_iou)


@pytest.mark.parametrize(
    "original",
    [
        square(slice(0, 0), slice(0, 0)),
        square(slice(0, 3), slice(2, 6)),
        np.random.default_rng(0).integers(0, 256, (8, 8, 1), dtype=np.uint8),
    ],
    ids=["plain", "shape in the prefix only", "noise"],
)
def test_without_a_shape_there_is_no_iou(original):
    figures = picture_figures(original, ORIGINAL, LOWER)
    assert math.isnan(figures.shape_iou)
    assert 0 <= figures.pixels_right < 1


@pytest.mark.parametrize("label", CLASSES)
def test_the_shapes_of_made_up_pictures_are_found_exactly(label):
    for pixels in make_pictures(label, 12, np.random.default_rng(0)):
        background = fit_background(pixels)
        on_ground = np.logical_or(*[(pixels == ground).all(axis=2) for ground in GROUNDS])
        shape = np.zeros_like(on_ground) if label == "gradient" else ~on_ground
        assert is_even(pixels, background)
        assert np.array_equal(shape_mask(pixels, background), shape)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 2)])
def test_pictures_of_a_few_pixels_have_a_background(size):
    pixels = np.full((*size, 3), 77, np.uint8)
    assert fit_background(pixels) == pytest.approx(np.full((*size, 3), 77.0))


@pytest.mark.parametrize("scan", ["patch", "raster"])
def test_the_upper_half_of_a_scan_is_the_prefix(scan):
    adapter = ImageAdapter(mode="RGB", size=(8, 8), scan=scan, patch=4)
    mask = generated_pixels(adapter, adapter.default_format(), 8 * 4 * 3)
    assert np.array_equal(mask, LOWER)
    assert not generated_pixels(adapter, adapter.default_format(), 8 * 8 * 3).any()


# Sounds


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("voice", ["pulse", "triangle", "sine"])
def test_the_pitch_of_a_note(voice, period):
    number = PERIODS.index(period)
    pitches = pitch_track(render(Melody(voice, ((number, 2),)))[:, None], RATE)
    assert pitches == pytest.approx(RATE / period, rel=0.01)


def test_silence_and_noise_have_no_pitch():
    noise = np.random.default_rng(0).integers(-9000, 9000, (4000, 1)).astype(np.int16)
    assert np.isnan(pitch_track(noise, RATE)).all()
    assert np.isnan(pitch_track(np.zeros((4000, 1), np.int16), RATE)).all()
    assert pitch_track(np.zeros((10, 1), np.int16), RATE).shape == (0,)
    assert pitch_track(np.zeros((0, 1), np.int16), RATE).shape == (0,)


def test_levels_are_in_decibels_of_full_scale():
    assert level(np.full((5, 2), -16384, np.int16)) == pytest.approx(-6.02, abs=0.01)
    assert level(np.zeros((5, 1), np.int16)) == pytest.approx(-90.3, abs=0.1)
    assert math.isnan(level(np.zeros((0, 1), np.int16)))


@pytest.mark.parametrize(
    ("rest", "energy", "semitones", "in_tune"),
    [
        (tone(300), 0.0, 0.0, 1.0),
        (tone(300, amplitude=4000), -6.02, 0.0, 1.0),
        (tone(300 * 2 ** (2 / 12)), 0.0, 2.0, 0.0),
        (np.zeros(4000, np.int16), -75.05, math.inf, 0.0),
    ],
    ids=["equal", "half as loud", "two semitones up", "silent"],
)
def test_a_continued_sound(rest, energy, semitones, in_tune):
    original, continued = tone(300, seconds=1)[:, None], np.concatenate([tone(300), rest])[:, None]
    figures = sound_figures(original, continued, cut=4000, rate=RATE)
    assert figures.original_energy_change == pytest.approx(0, abs=0.01)
    assert figures.energy_error == pytest.approx(energy, abs=0.01)
    assert figures.semitones == pytest.approx(semitones, abs=0.05)
    assert figures.frames_in_tune == in_tune


def test_a_sound_is_compared_up_to_the_end_of_the_shorter_one():
    original, continued = tone(300, seconds=1)[:, None], tone(300, seconds=0.7)[:, None]
    assert sound_figures(original, continued, 4000, RATE).frames_in_tune == 1.0
    for end in (continued[:4000], original[:0]):
        figures = sound_figures(original, end, 4000, RATE)
        assert all(math.isnan(value) for value in (figures.energy_change, figures.semitones, figures.frames_in_tune))


def test_a_silent_original_has_an_energy_and_no_pitch():
    silence = np.zeros((8000, 1), np.int16)
    figures = sound_figures(silence, silence, 4000, RATE)
    assert (figures.energy_change, figures.original_energy_change) == (0.0, 0.0)
    assert math.isnan(figures.semitones)
    assert math.isnan(figures.frames_in_tune)


# Texts


def test_words_of_the_continuation_beside_those_of_the_original():
    known = words(["The cat sat", "on THE mat."])
    assert known == {"the", "cat", "sat", "on", "mat"}
    assert text_figures("The cat ", "sat on a mut. ", "sat on the mat. ", known) == TextFigures(0.5, 1.0)


def test_a_word_across_the_cut_counts_whole_and_one_at_the_end_does_not():
    known = {"cat", "sat"}
    assert text_figures("The ca", "t sat on", "r sat on", known) == TextFigures(1.0, 0.5)
    assert text_figures("The cat", " sat. ", "s sat. ", known) == TextFigures(1.0, 0.5)


@pytest.mark.parametrize("rest", ["", "x", "1, 2.", "\N{REPLACEMENT CHARACTER}"])
def test_a_text_without_a_whole_word_has_no_share(rest):
    assert math.isnan(text_figures("The cat.", rest, "", {"x"}).known_words)


# By adapter


def test_the_adapter_decides_which_figures_there_are():
    image = ImageAdapter(mode="L", size=(8, 8), scan="raster")
    data = ORIGINAL.reshape(-1)
    assert completion_figures(image, image.default_format(), data, data, 32) == PictureFigures(1.0, 1.0)
    audio = AudioAdapter(RATE, 1, "pcm16")
    sound = tone(300, seconds=1).astype("<i2").view(np.uint8)
    figures = completion_figures(audio, audio.default_format(), sound, sound, 8000)
    assert isinstance(figures, SoundFigures)
    assert figures.frames_in_tune == 1.0
    text = TextAdapter()
    data = np.frombuffer(b"The cat sat. ", np.uint8)
    assert completion_figures(text, text.default_format(), data, data, 4, {"cat"}) == TextFigures(0.5, 0.5)
    file = FileAdapter()
    assert completion_figures(file, file.default_format(), data, data, 4) is None


def test_a_line_names_what_can_be_told():
    pictures = [PictureFigures(0.9, math.nan), PictureFigures(0.96, 0.81)]
    assert summary(pictures) == "pixels right 0.93, shape IoU 0.81"
    assert summary(pictures[:1]) == "pixels right 0.90"
    sounds = [SoundFigures(-2.2, -1, off, 0.75) for off in (0.0, 0.2, 1.0, math.inf, math.nan)]
    assert summary(sounds) == "pitch within a semitone: 3 of 4, frames in tune 0.75, energy −1.2 dB"
    assert summary([TextFigures(0.5, 0.75)]) == "known words 0.50, in the originals 0.75"
    assert summary([PictureFigures(math.nan, math.nan)]) == summary([]) == ""
