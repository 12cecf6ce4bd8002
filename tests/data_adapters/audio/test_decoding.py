"""Sound files with defects that libsndfile ignores, or that it does not read at all."""

import io
import struct

import numpy as np
import pytest
import soundfile

from data_adapters import AudioAdapter, MediaError
from data_adapters.audio.messages import plain_reason

SAMPLES = np.random.default_rng(0).integers(-9000, 9000, 3000).astype(np.int16)


def encoded(kind, samples=SAMPLES, **options):
    file = io.BytesIO()
    soundfile.write(file, samples, 8000, format=kind, **options)
    return file.getvalue()


def with_sizes(content, outer, inner):
    """A WAV with other sizes in the header of the file and in that of its samples."""
    return content[:4] + struct.pack("<I", outer) + content[8:40] + struct.pack("<I", inner) + content[44:]


def read(tmp_path, content):
    (tmp_path / "a.wav").write_bytes(content)
    return AudioAdapter().read(tmp_path / "a.wav")


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "RF64", "FLAC", "OGG"])
def test_truncated_files_are_refused(tmp_path, kind):
    content = encoded(kind)
    for length in (*(len(content) - missing for missing in (1, 2, 1000, 2000)), 43, 20, 12, 3, 0):
        with pytest.raises(MediaError, match=r"a\.wav: (is truncated|cannot be decoded|is not a sound file)"):
            read(tmp_path, content[:length])


def test_a_truncated_mp3_is_refused(tmp_path):
    with pytest.raises(MediaError, match="is truncated: it has 6 of 8 MP3 frames"):
        read(tmp_path, encoded("MP3")[:-300])


def test_an_mp3_without_a_stated_length_is_read_with_a_note(tmp_path):
    content = encoded("MP3")
    assert read(tmp_path, content).notes == ("MP3 samples rounded to 16 bits",)
    second_frame = content.find(content[:2], 2)
    assert "does not state its length" in read(tmp_path, content[second_frame:]).notes[0]
    tag = b"ID3\x04\0\0\0\0\x02\0" + bytes(256)
    assert read(tmp_path, tag + content).notes == ("MP3 samples rounded to 16 bits",)


@pytest.mark.parametrize("big_endian", [False, True])
def test_wav_files_of_both_byte_orders_are_read_and_checked(tmp_path, big_endian):
    content = encoded("WAV", endian="BIG" if big_endian else "LITTLE")
    assert content[:4] == (b"RIFX" if big_endian else b"RIFF")
    assert read(tmp_path, content).data.tobytes() == SAMPLES.tobytes()
    with pytest.raises(MediaError, match="is truncated"):
        read(tmp_path, content[:-2])


@pytest.mark.parametrize("outer", [0, 36, 0x7FFFF024, 0xFFFFFFFF])
def test_wav_streams_of_unknown_size_are_read_to_their_end(tmp_path, outer):
    for inner in (0, 0x7FFFF000, 0xFFFFFFFF):
        stream = read(tmp_path, with_sizes(encoded("WAV"), outer, inner))
        assert (stream.data.tobytes(), stream.notes) == (SAMPLES.tobytes(), ())


def test_an_empty_wav_is_an_empty_stream_also_before_another_chunk(tmp_path):
    content = encoded("WAV", SAMPLES[:0])
    assert len(read(tmp_path, content).data) == 0
    content += b"LIST\4\0\0\0INFO"
    assert len(read(tmp_path, with_sizes(content, len(content) - 8, 0)).data) == 0


def test_chunks_after_the_samples_are_ignored(tmp_path):
    content = encoded("WAV") + b"LIST\4\0\0\0INFO"
    assert read(tmp_path, with_sizes(content, len(content) - 8, 6000)).data.tobytes() == SAMPLES.tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_infinite_and_nan_samples_are_refused(tmp_path, value):
    with pytest.raises(MediaError, match="has infinite or NaN samples"):
        read(tmp_path, encoded("AIFF", np.array([0, 0.5, value]), subtype="FLOAT"))


def test_samples_beyond_the_largest_number_are_refused(tmp_path):
    """Once with a warning of numpy, which is an error here."""
    with pytest.raises(MediaError, match="has infinite or NaN samples"):
        read(tmp_path, encoded("WAV", np.array([0, 1e306]), subtype="DOUBLE"))


def with_channels(count):
    content = encoded("WAV")
    return content[:22] + struct.pack("<H", count) + content[24:]


NOT_SOUND = "is not a sound file in a supported format: WAV, AIFF, FLAC, Ogg, MP3"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", NOT_SOUND),
        (b"some words, and no sound at all", NOT_SOUND),
        (with_channels(0), "its header states no valid rate, length or number of channels"),
        (with_channels(65535), "its header states no valid rate, length or number of channels"),
        (encoded("FLAC")[:100] + bytes(50) + encoded("FLAC")[150:], "cannot be decoded: its contents are damaged"),
    ],
)
def test_messages_of_libsndfile_are_put_in_plain_words(tmp_path, content, reason):
    with pytest.raises(MediaError, match=reason):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            "Internal error : SF_INFO struct incomplete.",
            "its header states no valid rate, length or number of channels",
        ),
        ("Internal psf_fseek() failed.", "its contents are damaged"),
        ("Supported file format but file is malformed.", "its contents are damaged"),
        ("Supported file format but unsupported encoding.", "its coding is not supported"),
    ],
)
def test_internal_words_of_libsndfile_are_left_out(monkeypatch, message, reason):
    monkeypatch.setattr(soundfile.LibsndfileError, "error_string", message)
    assert plain_reason(soundfile.LibsndfileError(1)).startswith(f"cannot be decoded: {reason}")


def test_a_flac_stream_of_unknown_length_is_refused_with_advice(tmp_path):
    content = encoded("FLAC")
    known = int.from_bytes(content[18:26], "big")
    unknown = (known >> 36 << 36).to_bytes(8, "big")
    with pytest.raises(MediaError, match="states no plausible length; convert it to WAV first"):
        read(tmp_path, content[:18] + unknown + content[26:])
