"""Sound files that lie end to end, and bytes between and behind sounds: read whole, or refused by name."""

import contextlib
import io
import struct

import numpy as np
import pytest
import soundfile

from data_adapters import AudioAdapter, MediaError
from data_adapters.audio import mp3

TRAILING_DATA = "data after its samples was ignored: its header may be wrong"
KINDS = ["WAV", "AIFF", "FLAC", "OGG", "MP3"]


def encoded(kind, seed=0, frames=9000, rate=16000, channels=1, **options):
    samples = np.random.default_rng(seed).normal(0, 0.1, (frames, channels))
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, **options)
    return file.getvalue()


def read(tmp_path, content, **settings):
    (tmp_path / "a").write_bytes(content)
    return AudioAdapter(**settings).read(tmp_path / "a")


def refused(tmp_path, content):
    with pytest.raises(MediaError) as caught:
        read(tmp_path, content)
    return caught.value.reason


def id3(size):
    return b"ID3\3\0\0" + bytes([0, 0, size >> 7, size & 127]) + b"a" * size


def ape(size):
    return b"APETAGEX" + struct.pack("<IIII", 2000, size + 32, 0, 0xA0000000) + bytes(8) + b"a" * size + bytes(32)


def frames_of(content):
    frames = []
    while content:
        frame = mp3.parse_frame(content)
        assert frame
        frames.append(content[: frame.size])
        content = content[frame.size :]
    return frames


@pytest.mark.parametrize("kind", KINDS)
def test_files_end_to_end_are_read_whole(tmp_path, kind):
    contents = [encoded(kind, seed) for seed in range(3)]
    whole = read(tmp_path, b"".join(contents), rate=8000)
    alone = [read(tmp_path, content).data for content in contents]
    assert [len(data) for data in alone] == [18000] * 3
    assert len(whole.data) == 27000
    assert TRAILING_DATA not in whole.notes
    assert read(tmp_path, b"".join(contents)).data.tobytes() == np.concatenate(alone).tobytes()


def test_chained_opus_is_read_whole(tmp_path):
    contents = [encoded("OGG", seed, subtype="OPUS") for seed in range(2)]
    alone = [read(tmp_path, content).data for content in contents]
    assert read(tmp_path, b"".join(contents)).data.tobytes() == np.concatenate(alone).tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_joined_files_are_refused_if_the_last_is_truncated_or_has_another_rate(tmp_path, kind):
    first = encoded(kind)
    assert refused(tmp_path, first + encoded(kind, 1)[:-700]).startswith(("is truncated: ", "cannot be decoded: "))
    reason = refused(tmp_path, first + encoded(kind, 1, rate=8000))
    assert reason.startswith("joins sounds of different formats (")
    assert "16000 Hz, 1 channel; " in reason


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("size", [110, 2000])
def test_a_file_behind_an_id3_tag_is_read_whole_and_refused_if_truncated(tmp_path, kind, size):
    content = encoded(kind)
    assert read(tmp_path, id3(size) + content).data.tobytes() == read(tmp_path, content).data.tobytes()
    assert refused(tmp_path, id3(size) + content[:-700]).startswith(("is truncated: ", "cannot be decoded: "))


@pytest.mark.parametrize("joined", [1, 2])
def test_an_mp3_without_a_stated_length_is_read_whole(tmp_path, joined):
    frames = frames_of(encoded("MP3", frames=48000))[1:]
    content = b"".join(frames) * joined
    expected = 576 * len(frames) * joined - mp3.DECODER_DELAY
    stream = read(tmp_path, content)
    assert len(stream.data) == 2 * expected
    assert "does not state its length" in stream.notes[0]
    assert len(read(tmp_path, content[:-9]).data) == 2 * (expected - 576)


def test_what_follows_the_stated_frames_of_an_mp3_is_read_too(tmp_path):
    stated = encoded("MP3")
    further = frames_of(encoded("MP3", 1))[1:]
    stream = read(tmp_path, stated + b"".join(further))
    assert len(stream.data) == 2 * (9000 + 576 * len(further) - mp3.DECODER_DELAY)


@pytest.mark.parametrize("tag", [b"TAG" + b"a" * 125, ape(90), id3(300), bytes(50), ape(5) + b"TAG" + b"a" * 125])
def test_tags_around_and_between_mp3s_are_no_sound(tmp_path, tag):
    alone = [read(tmp_path, encoded("MP3", seed)).data for seed in range(2)]
    whole = read(tmp_path, encoded("MP3") + tag + encoded("MP3", 1) + tag)
    assert whole.data.tobytes() == np.concatenate(alone).tobytes()


def test_bytes_that_are_no_frame_of_an_mp3_are_refused_by_their_position(tmp_path):
    content = encoded("MP3")
    assert refused(tmp_path, content + b"anything") == f"cannot be decoded: it has no MP3 frame at byte {len(content)}"


@pytest.mark.parametrize("frames", [slice(1), slice(1, 2)])
def test_an_mp3_without_a_complete_frame_of_sound_is_refused(tmp_path, frames):
    content = b"".join(frames_of(encoded("MP3"))[frames])[:-1]
    assert refused(tmp_path, content) == "cannot be decoded: it has no complete MP3 frame"


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_the_sizes_of_mp3_frames_follow_the_standard(layer):
    heads = {0: 0xF9, 1: 0xFF, 2: 0xFD, 3: 0xFB}  # MPEG 1, without a checksum
    frame = mp3.parse_frame(bytes([0xFF, heads[layer], 0x92, 0]))
    sizes = {1: (12 * 288000 // 44100 + 1) * 4, 2: 144 * 160000 // 44100 + 1, 3: 144 * 128000 // 44100 + 1}
    assert (frame and frame.size) == sizes.get(layer)


def pages_of(content):
    starts = [at for at in range(len(content)) if content[at : at + 4] == b"OggS"]
    return [content[start:end] for start, end in zip(starts, [*starts[1:], len(content)], strict=True)]


def test_damaged_ogg_pages_are_refused_by_their_position(tmp_path):
    first, second, *rest = pages_of(encoded("OGG", frames=60000))
    damaged = first + second + b"XXXX" + rest[0][4:] + b"".join(rest[1:])
    assert refused(tmp_path, damaged) == f"cannot be decoded: it has no Ogg page at byte {len(first + second)}"
    whole = first + second + b"".join(rest)
    assert refused(tmp_path, second) == "cannot be decoded: the Ogg page at byte 0 belongs to no stream"
    assert refused(tmp_path, first + second + whole).startswith("is truncated: the Ogg stream before byte ")
    assert refused(tmp_path, first + whole).startswith("holds several Ogg streams side by side")


def test_an_ogg_page_with_a_wrong_checksum_is_refused(tmp_path):
    first, second, third, *rest = pages_of(encoded("OGG", frames=60000))
    for at in (22, len(third) - 1):  # of the checksum itself, and of the samples
        damaged = third[:at] + bytes([third[at] ^ 1]) + third[at + 1 :]
        line = f"is damaged: the Ogg page at byte {len(first + second)} has a wrong checksum"
        assert refused(tmp_path, b"".join([first, second, damaged, *rest])) == line


@pytest.mark.parametrize("kind", ["FLAC", "OGG"])
def test_other_data_behind_the_samples_is_noted(tmp_path, kind):
    content = encoded(kind)
    stream = read(tmp_path, content + b"anything")
    assert (len(stream.data), TRAILING_DATA in stream.notes) == (18000, True)
    assert TRAILING_DATA not in read(tmp_path, content + bytes(40)).notes


@pytest.mark.parametrize("frames", [1, 17, 4096, 4097, 20000])
@pytest.mark.parametrize(
    ("channels", "rate", "subtype"), [(1, 44100, "PCM_16"), (6, 12345, "PCM_24"), (2, 8, "PCM_S8")]
)
def test_the_last_frame_of_a_flac_is_recognised(tmp_path, frames, channels, rate, subtype):
    content = encoded("FLAC", 0, frames, rate, channels, subtype=subtype)
    for tail in (b"", b"TAG" + b"a" * 125):
        assert TRAILING_DATA not in read(tmp_path, content + tail).notes
    assert TRAILING_DATA in read(tmp_path, content + bytes(9) + b"x").notes


def test_decoders_print_nothing(tmp_path, capfd):
    frames = frames_of(encoded("MP3"))
    contents = [b"".join(frames)[:-100], frames[0] + b"".join(frames[3:]) * 2, b"".join(frames[1:])]
    contents.append(frames[0] + frames[1] + b"\xff" * 40 + b"".join(frames[2:]))
    contents.append(b"".join(frames[:2]) + b"".join(frame[:40] + b"\xa5" * (len(frame) - 40) for frame in frames[2:]))
    for content in contents:
        (tmp_path / "a.mp3").write_bytes(content)
        with contextlib.suppress(MediaError):
            AudioAdapter().read(tmp_path / "a.mp3")
    assert capfd.readouterr() == ("", "")
