"""Bits per byte of the codecs on inputs whose sizes are known."""

import io
import lzma

import numpy as np
import pytest
import soundfile
from baselines import CODECS, bits_per_byte
from PIL import Image


def test_a_picture_counts_pixels_and_channels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png", compress_level=0)
    coded = io.BytesIO()
    Image.fromarray(pixels).save(coded, "PNG", optimize=True)
    assert bits_per_byte("PNG", [tmp_path / "noise.png"]) == 8 * len(coded.getvalue()) / 3072
    assert bits_per_byte("WebP lossless", [tmp_path / "noise.png"]) > 7.9


def test_webp_keeps_the_colours_below_full_transparency(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 4), dtype=np.uint8)
    pixels[:, :, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "hidden.png")
    assert bits_per_byte("WebP lossless", [tmp_path / "hidden.png"]) > 5.9


@pytest.mark.parametrize(("scale", "width"), [(256, 1), (255, 2)])
def test_sound_counts_one_byte_per_sample_where_eight_bits_hold_it(tmp_path, scale, width):
    noise = np.random.default_rng(0).integers(-128, 128, 8000)
    soundfile.write(tmp_path / "noise.wav", (noise * scale).astype(np.int16), 8000, subtype="PCM_16")
    subtype = {1: "PCM_S8", 2: "PCM_16"}[width]
    soundfile.write(tmp_path / "noise.flac", (noise * scale).astype(np.int16), 8000, subtype=subtype)
    expected = 8 * (tmp_path / "noise.flac").stat().st_size / (8000 * width)
    assert bits_per_byte("FLAC", [tmp_path / "noise.wav"]) == pytest.approx(expected, rel=0.001)


def test_texts_add_up_before_they_are_divided(tmp_path):
    texts = {"a.py": b"x = 1\n" * 500, "b.py": bytes(range(256))}
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    coded = sum(len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) for text in texts.values())
    assert bits_per_byte("xz", [tmp_path / name for name in texts]) == 8 * coded / 3256


@pytest.mark.parametrize("codec", CODECS)
def test_nothing_to_compress_is_an_error(codec):
    with pytest.raises(ValueError, match=codec):
        bits_per_byte(codec, [])
