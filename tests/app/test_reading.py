"""Uploads are read as the adapters read them, in a process that may crash."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from data_adapters import AudioAdapter, FileAdapter, ImageAdapter, MediaError, TextAdapter
from megabyte_mm.app.limits import Limits
from megabyte_mm.app.reading import Reader


class CrashingAdapter(FileAdapter):
    """Ends the process, as a broken decoder does, or never returns, by the name of the file."""

    name = "crashing"

    def read(self, path):
        if Path(path).name == "crash":
            os._exit(11)
        if Path(path).name == "slow":
            time.sleep(60)
        return super().read(path)


@pytest.fixture(scope="module")
def reader():
    reader = Reader(Limits(upload_megabytes=1, pixels=10_000, stream_bytes=1000, reading_seconds=5))
    yield reader
    reader.close()


def refusal(reader, adapter, path):
    with pytest.raises(MediaError) as error:
        reader.read(adapter, path)
    return str(error.value)


def test_a_file_is_read_as_its_adapter_reads_it(reader, tmp_path):
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).resize((20, 10)).save(tmp_path / "a.png")
    adapter = ImageAdapter("L", (8, 8))
    expected, stream = adapter.read(tmp_path / "a.png"), reader.read(adapter, tmp_path / "a.png")
    assert np.array_equal(stream.data, expected.data)
    assert (stream.format, stream.notes) == (expected.format, expected.notes)


def test_a_refusal_is_that_of_the_adapter_without_the_folder(reader, tmp_path):
    (tmp_path / "a.png").write_bytes(b"<script>alert(1)</script>")
    with pytest.raises(MediaError) as error:
        ImageAdapter().read(tmp_path / "a.png")
    assert refusal(reader, ImageAdapter(), tmp_path / "a.png") == f"a.png: {error.value.reason}"


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(reader, tmp_path):
    Image.new("1", (200, 200)).save(tmp_path / "a.png")
    assert "it has 40,000 pixels, and the limit is 10,000" in refusal(reader, ImageAdapter(), tmp_path / "a.png")


def test_a_file_of_too_many_bytes_is_refused_unread(reader, tmp_path):
    (tmp_path / "a.txt").write_bytes(bytes(1_000_001))
    assert refusal(reader, TextAdapter(), tmp_path / "a.txt") == "a.txt: has 1,000,001 bytes; at most 1 MB can be used"


def test_the_end_of_a_long_sound_is_left_out_at_a_whole_frame(reader, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((999, 3), np.int16), 8000)
    stream = reader.read(AudioAdapter(), tmp_path / "a.wav")
    assert len(stream.data) == 996
    assert stream.notes[-1] == "only its first 996 of 5,994 bytes are used"


def test_a_file_that_was_changed_is_read_again(reader, tmp_path):
    for text in ("one", "three"):
        (tmp_path / "a.txt").write_text(text)
        assert reader.read(TextAdapter(), tmp_path / "a.txt").data.tobytes() == text.encode()


@pytest.mark.parametrize(
    ("name", "reason"), [("crash", "its decoder crashed, or needs too much memory"), ("slow", "took more than 1 s")]
)
def test_a_decoder_that_crashes_or_hangs_ends_only_its_own_process(name, reason, tmp_path):
    reader = Reader(Limits(reading_seconds=1 if name == "slow" else 20))
    for file in (name, "good"):
        (tmp_path / file).write_bytes(b"content")
    try:
        assert reason in refusal(reader, CrashingAdapter(), tmp_path / name)
        reader = Reader(Limits())
        assert reader.read(CrashingAdapter(), tmp_path / "good").data.tobytes() == b"content"
    finally:
        reader.close()
