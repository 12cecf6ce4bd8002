"""Sizes of other codecs: those of real files, which decode to the input."""

import lzma
import sys

import numpy as np
import pytest
import soundfile
from PIL import Image

from megabyte_mm.evaluation import codecs
from megabyte_mm.evaluation.codecs import (
    CODECS,
    Codec,
    Content,
    LossyError,
    PcmSound,
    UnsupportedError,
)

BY_NAME = {codec.name: codec for codec in CODECS}
PIXEL_CODECS = [codec.name for codec in CODECS if codec.input == "pixels"]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def picture(*shape):
    pixels = noise(*shape)
    return Content(pixels.reshape(-1), pixels=pixels)


def test_a_picture_costs_the_file_that_pillow_writes_over_its_pixels_and_channels(tmp_path):
    content = picture(32, 32, 3)
    Image.fromarray(content.pixels).save(tmp_path / "noise.png", optimize=True)
    assert BY_NAME["PNG"].bits_per_byte([content]) == 8 * (tmp_path / "noise.png").stat().st_size / 3072


@pytest.mark.parametrize("name", PIXEL_CODECS)
@pytest.mark.parametrize("channels", [1, 3])
def test_noise_costs_a_codec_of_pixels_about_eight_bits(name, channels):
    assert 7.5 < BY_NAME[name].bits_per_byte([picture(32, 32, channels)]) < 12


@pytest.mark.parametrize("name", PIXEL_CODECS)
def test_colours_below_full_transparency_are_kept(name):
    content = picture(32, 32, 4)
    content.pixels[:, :, 3] = 0
    assert BY_NAME[name].bits_per_byte([content]) > 5.9


@pytest.mark.parametrize("eight_bits", [True, False])
def test_a_sound_costs_the_flac_file_that_is_written(tmp_path, eight_bits):
    samples = noise(4000, 2).astype(np.int16) * 256 + (0 if eight_bits else 1)
    content = Content(noise(8000 * (1 if eight_bits else 2)), sound=PcmSound(samples, 8000, eight_bits))
    subtype = "PCM_S8" if eight_bits else "PCM_16"
    soundfile.write(tmp_path / "a.flac", samples, 8000, subtype, compression_level=1.0)
    expected = 8 * (tmp_path / "a.flac").stat().st_size / len(content.data)
    assert BY_NAME["FLAC"].bits_per_byte([content]) == pytest.approx(expected, rel=1e-3)


def test_sizes_are_summed_before_they_are_divided_and_joined_files_are_one_file():
    texts = [b"x = 1\n" * 500, bytes(range(256)), b"x = 1\n" * 400]
    streams = [np.frombuffer(text, np.uint8) for text in texts]
    encoded = sum(len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) for text in texts)
    total = sum(map(len, texts))
    assert BY_NAME["xz"].bits_per_byte(map(Content, streams)) == 8 * encoded / total
    together = len(lzma.compress(b"".join(texts), preset=9 | lzma.PRESET_EXTREME))
    assert BY_NAME["xz"].joined_bits_per_byte(streams) == 8 * together / total


@pytest.mark.parametrize("name", [codec.name for codec in CODECS if codec.input == "data"])
def test_codecs_of_bytes_encode_any(name):
    for data in (noise(1000), np.zeros(100_000, np.uint8)):
        assert 0 < BY_NAME[name].bits_per_byte([Content(data)]) < 8.6


def test_a_codec_that_alters_pixels_samples_or_bytes_is_caught(monkeypatch):
    content = picture(32, 32, 3)
    lossy = Codec("JPEG", "pixels", "", lambda pixels: codecs._picture_size(pixels, "JPEG", quality=95))
    with pytest.raises(LossyError, match="JPEG: the decoded pixels differ"):
        lossy.encoded_size(content)
    with pytest.raises(LossyError, match="the decoded samples differ"):  # which are no multiples of 256
        BY_NAME["FLAC"].encoded_size(
            Content(content.data, sound=PcmSound(np.arange(99, dtype=np.int16)[:, None], 8000, True))
        )
    with pytest.raises(LossyError, match="the decoded bytes differ"):
        codecs._bytes_size(content.data, lambda raw: raw[:-1], lambda encoded: encoded)


def test_an_unsupported_file_is_refused_with_the_reason(monkeypatch):
    with pytest.raises(UnsupportedError, match="FLAC cannot encode it: "):
        BY_NAME["FLAC"].encoded_size(Content(noise(90), sound=PcmSound(np.zeros((10, 9), np.int16), 8000, True)))
    with pytest.raises(UnsupportedError, match="PNG encodes pixels, and this file has none"):
        BY_NAME["PNG"].encoded_size(Content(noise(9)))
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    monkeypatch.setitem(sys.modules, "brotli", None)
    for name in ("JPEG XL", "brotli"):
        with pytest.raises(UnsupportedError, match=rf"{name} is not installed: pip install 'megabyte-mm\[report\]'"):
            BY_NAME[name].encoded_size(picture(8, 8, 3))


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_nothing_to_compress_is_an_error(codec):
    with pytest.raises(ValueError, match=f"{codec.name}: no bytes"):
        codec.bits_per_byte([])


def test_a_picture_too_wide_for_webp_is_unsupported():
    wide = np.zeros((1, 16384, 3), np.uint8)
    with pytest.raises(UnsupportedError, match="WebP cannot encode it"):
        BY_NAME["WebP"].encoded_size(Content(wide.reshape(-1), pixels=wide))
