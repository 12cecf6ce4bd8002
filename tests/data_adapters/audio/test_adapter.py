import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from data_adapters import AudioAdapter, ByteStream, MediaError

ENCODINGS = ["pcm16", "pcm16be", "pcm8", "mulaw"]
CONTAINERS = ["wav", "flac"]


def noise(frames, channels=1, seed=0):
    return np.random.default_rng(seed).integers(-32768, 32768, (frames, channels)).astype(np.int16)


def write(path, samples, rate=8000, **options):
    soundfile.write(path, samples, rate, **options)
    return path


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 40), st.integers(1, 3), st.sampled_from(ENCODINGS), st.sampled_from(CONTAINERS), st.data())
def test_streams_round_trip(folder, frames, channels, encoding, container, data):
    adapter = AudioAdapter(8000, channels, encoding, container)
    content = data.draw(st.binary(min_size=frames * adapter.unit, max_size=frames * adapter.unit))
    stream = ByteStream(np.frombuffer(content, np.uint8), adapter.default_format())
    path = folder / f"a.{container}"
    adapter.write(stream, path)
    again = adapter.read(path)
    assert (again.data.tobytes(), again.format, again.notes) == (content, stream.format, ())
    native = AudioAdapter(encoding=encoding).read(path)
    assert (native.data.tobytes(), native.format) == (content, stream.format)


@pytest.mark.parametrize("encoding", ["pcm8", "mulaw"])
@pytest.mark.parametrize("container", CONTAINERS)
def test_all_codes_survive_a_file(tmp_path, encoding, container):
    adapter = AudioAdapter(8000, 1, encoding, container)
    codes = np.arange(256, dtype=np.uint8)
    adapter.write(ByteStream(codes, adapter.default_format()), tmp_path / "a")
    np.testing.assert_array_equal(adapter.read(tmp_path / "a").data, codes)
    assert soundfile.info(tmp_path / "a").subtype == (
        "PCM_16" if encoding == "mulaw" else {"wav": "PCM_U8", "flac": "PCM_S8"}[container]
    )


@pytest.mark.parametrize(("frames", "channels"), [(1, 1), (1, 2), (997, 1), (997, 2), (5, 6)])
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF"])
def test_16_bit_files_are_read_bit_for_bit(tmp_path, frames, channels, kind):
    samples = noise(frames, channels)
    stream = AudioAdapter().read(write(tmp_path / "a", samples, format=kind, subtype="PCM_16"))
    assert (stream.data.tobytes(), stream.notes) == (samples.astype("<i2").tobytes(), ())
    assert stream.format == {"modality": "audio", "rate": 8000, "channels": channels, "encoding": "pcm16"}


def test_8_bit_files_are_read_bit_for_bit(tmp_path):
    path = write(tmp_path / "a.wav", noise(500), subtype="PCM_U8")
    stream = AudioAdapter(encoding="pcm8").read(path)
    assert (stream.data.tobytes(), stream.notes) == (path.read_bytes()[44:544], ())


@pytest.mark.parametrize("kind", ["OGG", "MP3", "AIFF", "FLAC"])
def test_other_formats_are_decoded(tmp_path, kind):
    tone = 0.5 * np.sin(np.arange(16000) / 10)
    stream = AudioAdapter().read(write(tmp_path / "a", tone, 16000, format=kind))
    decoded = stream.data.view("<i2") / 32768
    assert len(decoded) == 16000
    assert np.abs(decoded - tone).mean() < 0.05


@pytest.mark.parametrize(
    ("subtype", "called"),
    [
        ("PCM_24", "24-bit"),
        ("PCM_32", "32-bit"),
        ("FLOAT", "32-bit floating-point"),
        ("DOUBLE", "64-bit floating-point"),
    ],
)
def test_finer_samples_are_rounded_with_a_note(tmp_path, subtype, called):
    steps = np.array([0, 0.25, 0.75, 1.5, 2.5, -0.75, 20000.25])
    stream = AudioAdapter().read(write(tmp_path / "a.wav", steps / 32768, subtype=subtype))
    assert stream.data.view("<i2").tolist() == [0, 0, 1, 2, 2, -1, 20000]
    assert stream.notes == (f"{called} samples rounded to 16 bits",)


def test_finer_files_with_16_bit_samples_are_read_without_a_note(tmp_path):
    samples = noise(100)
    stream = AudioAdapter().read(write(tmp_path / "a.wav", samples / 32768, subtype="FLOAT"))
    assert (stream.data.tobytes(), stream.notes) == (samples.tobytes(), ())


def test_clipping_is_counted(tmp_path):
    path = write(tmp_path / "a.wav", np.array([[0.5, 1.25], [-1.5, 0], [3, -1]]), subtype="FLOAT")
    stream = AudioAdapter().read(path)
    assert stream.data.view("<i2").tolist() == [16384, 32767, -32768, 0, 32767, -32768]
    assert "3 of 6 samples clipped" in stream.notes


def test_clipping_by_resampling_is_counted(tmp_path):
    square = np.where(np.arange(800) // 20 % 2, 32767, -32768).astype(np.int16)
    notes = AudioAdapter(rate=16000).read(write(tmp_path / "a.wav", square)).notes
    assert notes[0] == "resampled from 8000 to 16000 Hz"
    assert notes[1].endswith("of 1600 samples clipped")
    assert len(notes) == 2


@pytest.mark.parametrize("encoding", ["pcm8", "mulaw"])
def test_rounding_to_256_levels_is_noted(tmp_path, encoding):
    path = write(tmp_path / "a.wav", noise(100))
    assert AudioAdapter(encoding=encoding).read(path).notes == (f"samples rounded to the 256 levels of {encoding}",)


@pytest.mark.parametrize(("source", "target"), [(8000, 16000), (44100, 8000), (16000, 11025), (8000, 8000)])
def test_resampling_preserves_duration_and_pitch(tmp_path, source, target):
    tone = (8000 * np.sin(2 * np.pi * 1000 * np.arange(source) / source)).astype(np.int16)
    stream = AudioAdapter(rate=target).read(write(tmp_path / "a.wav", tone, source))
    decoded = stream.data.view("<i2")
    assert (len(decoded), stream.format["rate"]) == (target, target)
    assert np.abs(np.fft.rfft(decoded)).argmax() == 1000
    assert abs(np.abs(decoded[1000:-1000]).max() - 8000) < 80


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_the_shortest_sounds_are_resampled(tmp_path, frames):
    path = write(tmp_path / "a.wav", noise(frames, 2) // 4)
    assert len(AudioAdapter(rate=16000).read(path).data) == frames * 2 * 2 * 2


def test_channels_are_mixed_down_by_their_mean(tmp_path):
    path = write(tmp_path / "a.wav", np.array([[10, 20], [1, 2], [2, 3], [-32768, 32767], [30000, 32766]], np.int16))
    stream = AudioAdapter(channels=1).read(path)
    assert stream.data.view("<i2").tolist() == [15, 2, 2, 0, 31383]
    assert stream.notes == ("2 channels mixed down to their mean",)


def test_one_channel_is_copied_to_all(tmp_path):
    stream = AudioAdapter(channels=3).read(write(tmp_path / "a.wav", np.array([5, -6], np.int16)))
    assert stream.data.view("<i2").tolist() == [5, 5, 5, -6, -6, -6]
    assert stream.notes == ("one channel copied to 3",)


def test_six_channels_cannot_be_mixed_to_two(tmp_path):
    with pytest.raises(MediaError, match=r"a\.wav: has 6 channels, which can be mixed down to 1 but not to 2"):
        AudioAdapter(channels=2).read(write(tmp_path / "a.wav", noise(5, 6)))


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("length", [0, 1, 3, 4, 7, 40])
def test_a_prefix_is_written_in_whole_frames(tmp_path, length, container):
    samples = noise(10, 2)
    whole = AudioAdapter().read(write(tmp_path / "a.wav", samples))
    adapter = AudioAdapter(container=container)
    adapter.write(ByteStream(whole.data[:length], whole.format), tmp_path / "b")
    assert adapter.read(tmp_path / "b").data.tobytes() == samples.tobytes()[: length // 4 * 4]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_stream_is_written_in_its_own_format(tmp_path):
    stream = AudioAdapter(encoding="pcm8").read(write(tmp_path / "a.wav", noise(9, 2), 11025))
    AudioAdapter(16000, 1, "mulaw").write(stream, tmp_path / "b.wav")
    info = soundfile.info(tmp_path / "b.wav")
    assert (info.samplerate, info.channels, info.subtype, info.frames) == (11025, 2, "PCM_U8", 9)


@pytest.mark.parametrize("frames", [0, 2])
@pytest.mark.parametrize(("rate", "channels"), [(8000, 9), (2**20, 1)])
def test_a_format_that_the_container_does_not_support_is_refused(tmp_path, frames, rate, channels):
    adapter = AudioAdapter(rate, channels, container="flac")
    with pytest.raises(MediaError, match=f"flac files do not support {channels} channels at {rate} Hz"):
        adapter.write(ByteStream(np.zeros(frames * adapter.unit, np.uint8), adapter.default_format()), tmp_path / "a")


def test_unit_and_boundaries_follow_from_the_settings():
    assert AudioAdapter(channels=2).unit == 4
    assert AudioAdapter(channels=2, encoding="pcm8").unit == AudioAdapter(channels=2, encoding="mulaw").unit == 2
    assert AudioAdapter(channels=2).unit_in(AudioAdapter(8000, 3, "pcm8").default_format()) == 3
    adapter = AudioAdapter(8000, 2)
    assert (adapter.length, adapter.patch_size, adapter.single_window) == (None, None, False)
    assert adapter.output_suffix == ".wav"
    assert adapter.last_boundary(np.zeros(99, np.uint8), 50) == 48
    assert adapter.last_boundary(np.zeros(9, np.uint8), 50) == 8


@pytest.mark.parametrize("settings", [{}, {"rate": 8000}, {"channels": 1}])
def test_sound_without_a_prefix_needs_rate_and_channels(settings):
    with pytest.raises(ValueError, match="needs a rate and channels"):
        AudioAdapter(**settings).default_format()


@pytest.mark.parametrize("settings", [{"rate": 0}, {"channels": 0}, {"encoding": "alaw"}, {"container": "mp3"}])
def test_invalid_settings_are_named(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
        AudioAdapter(**settings)


def test_channels_that_cancel_each_other_are_noted(tmp_path):
    sound = noise(1000) // 2
    path = write(tmp_path / "a.wav", np.hstack([sound, 1 - sound]))
    note = "the channels cancel each other: their mean is nearly silent"
    assert AudioAdapter(channels=1).read(path).notes == ("2 channels mixed down to their mean", note)
    assert AudioAdapter().read(path).notes == ()
    for other in (sound, 0 * sound, -sound // 2, noise(1000, seed=1)):
        write(path, np.hstack([sound, other]))
        assert note not in AudioAdapter(channels=1).read(path).notes
    write(path, np.zeros((1000, 2), np.int16))
    assert note not in AudioAdapter(channels=1).read(path).notes
