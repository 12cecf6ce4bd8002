"""Conversion in blocks: the bytes of a conversion of the whole sound, in less memory."""

import errno
import io
import tracemalloc

import numpy as np
import pytest
import soundfile
import soxr

from data_adapters import AudioAdapter, MediaError
from data_adapters.audio import decoding
from data_adapters.audio.content import Content
from data_adapters.audio.encoding import encode, to_int16
from data_adapters.io import UnavailableError

CODINGS = [
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("WAV", "IMA_ADPCM"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]


def write(path, kind, subtype, frames=20_011, channels=2):
    tone = 0.9 * np.sin(np.arange(frames) ** 1.3 / 40)
    sound = np.stack([tone, *[tone * 0.5 + 0.3] * (channels - 1)], axis=1)
    soundfile.write(path, sound, 48000, subtype, format=kind)
    return path


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("kind", "subtype"), CODINGS)
def test_blocks_give_the_bytes_of_the_whole_sound(tmp_path, monkeypatch, kind, subtype, channels):
    path = write(tmp_path / "a", kind, subtype, channels=channels)
    is_finer = subtype not in ("PCM_16", "IMA_ADPCM")
    sound, rate = soundfile.read(path, dtype="float64" if is_finer else "int16", always_2d=True)
    sound = sound * 32768 if is_finer else sound
    mean = sound.mean(axis=1, keepdims=True) if channels == 2 else sound.astype(np.float64)
    expected, _ = to_int16(soxr.resample(mean, rate, 22050, quality="VHQ"))
    unchanged, _ = to_int16(sound.astype(np.float64))
    for block in (997, 2**13):
        monkeypatch.setattr(decoding, "BLOCK_SAMPLES", block)
        stream = AudioAdapter(22050, 1, "mulaw").read(path)
        assert stream.data.tobytes() == encode(expected, "mulaw").tobytes()
        assert AudioAdapter().read(path).data.tobytes() == unchanged.tobytes()


def test_notes_count_the_samples_of_all_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "BLOCK_SAMPLES", 10)
    sound = np.zeros(100)
    sound[[3, 50, 97]] = 2
    soundfile.write(tmp_path / "a.wav", sound, 8000, subtype="FLOAT")
    notes = AudioAdapter(encoding="mulaw").read(tmp_path / "a.wav").notes
    assert notes == (
        "32-bit floating-point samples rounded to 16 bits",
        "3 of 100 samples clipped",
    )


def test_memory_does_not_grow_with_the_sound(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, (2_000_000, 2)), 44100, "PCM_24")
    tracemalloc.start()
    try:
        stream = AudioAdapter(8000, 1, "mulaw").read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert abs(len(stream.data) - 2_000_000 * 8000 / 44100) < 1
    assert peak < 12e6  # whole, its samples alone are 32 MB


@pytest.mark.parametrize("failing", ["encode", "to_int16"])
def test_where_memory_ends_one_line_names_the_file(tmp_path, monkeypatch, failing):
    def fail(*_):
        raise MemoryError

    path = write(tmp_path / "a", "FLAC", "PCM_24")
    monkeypatch.setattr(f"data_adapters.audio.conversion.{failing}", fail)
    with pytest.raises(UnavailableError, match=r"a: is too large for this machine's memory$"):
        AudioAdapter().read(path)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_a_read_error_while_decoding_is_reported(tmp_path, monkeypatch, kind, capfd):
    path = write(tmp_path / "a", kind, soundfile.default_subtype(kind))

    def fail(content, span):
        if decoding_starts:
            raise OSError(errno.EIO, "Input/output error")
        return read(content, span)

    def decode(*arguments):
        decoding_starts.append(True)
        return original(*arguments)

    decoding_starts, read, original = [], Content.__getitem__, decoding._decode
    monkeypatch.setattr(decoding, "_decode", decode)
    monkeypatch.setattr(Content, "__getitem__", fail)
    with pytest.raises(UnavailableError, match=r"a: cannot be read: Input/output error"):
        AudioAdapter().read(path)
    assert capfd.readouterr().err == ""


def test_an_impossible_mix_is_refused_before_decoding(tmp_path, monkeypatch):
    path = write(tmp_path / "a", "WAV", "PCM_16", channels=6)
    monkeypatch.setattr(decoding, "_decode", None)
    with pytest.raises(MediaError, match="has 6 channels"):
        AudioAdapter(channels=2).read(path)


def test_slices_of_content_are_those_of_bytes():
    data = bytes(range(100))
    content = Content(io.BytesIO(data), 10, 60, b"prefix")
    whole = b"prefix" + data[10:60]
    assert len(content) == len(whole)
    for span in (slice(0, 3), slice(3, 9), slice(6, 8), slice(50, 90), slice(None), slice(70, 80), slice(9, 4)):
        assert content[span] == whole[span]
    part = Content(io.BytesIO(data), 10, 60).part(5, 20, b"x")
    assert part[:] == b"x" + data[15:30]
    assert list(Content(io.BytesIO(b"abcabc\0\0"), 1, 8).find_all(b"bc", 0)) == [0, 3]
    assert Content(io.BytesIO(b"abcabc\0\0"), 1, 8).unpadded_length() == 5
