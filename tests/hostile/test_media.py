"""Pictures and sounds that are damaged, truncated, of unsupported formats, or too large when decoded."""

import struct
import warnings
import zlib

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from data_adapters import Adapter, AudioAdapter, FileAdapter, ImageAdapter, MediaError, TextAdapter
from data_adapters.audio.decoding import MAX_SAMPLES_PER_BYTE
from fuzz import contracts, forged, seeds
from fuzz.mutators import fix_ogg_checksums, fix_png_checksums

PICTURES, SOUNDS, TEXTS = seeds.pictures(), seeds.sounds(), seeds.texts()
MODALITIES: dict[str, tuple[dict[str, bytes], list[Adapter]]] = {
    "image": (PICTURES, [ImageAdapter(scan="raster"), ImageAdapter("L", (8, 8), patch=2)]),
    "audio": (SOUNDS, [AudioAdapter(), AudioAdapter(rate=8000, channels=1, encoding="mulaw", container="flac")]),
    "text": (TEXTS, [TextAdapter()]),
    "file": (TEXTS | PICTURES, [FileAdapter()]),
}
TRUNCATED = ("is truncated", "cannot be decoded")
UNKNOWN_LENGTH = "an MP3 file that does not state its length: the end may be missing"


def refused(adapter, path, content):
    path.write_bytes(content)
    with pytest.raises(MediaError) as caught:
        adapter.read(path)
    contracts.check_refusal(caught.value, path)
    return caught.value.reason


def accepted(adapter, path):
    stream = contracts.check_reader(adapter, path)
    assert stream is not None
    return stream


@st.composite
def damaged(draw, files):
    """A file with bits flipped and pieces removed, inserted or replaced; its checksums may be corrected."""
    content = bytearray(files[draw(st.sampled_from(sorted(files)))])
    for _ in range(draw(st.integers(1, 4))):
        at, size = draw(st.integers(0, len(content))), draw(st.integers(0, 40))
        match draw(st.sampled_from(["flip", "cut", "insert", "splice", "repeat"])):
            case "flip":
                content[at : at + 1] = bytes(byte ^ 1 << size % 8 for byte in content[at : at + 1])
            case "cut":
                del content[at : at + size]
            case "insert":
                content[at:at] = draw(st.binary(max_size=8))
            case "splice":
                content[at:] = files[draw(st.sampled_from(sorted(files)))][at:]
            case "repeat":
                content[at:at] = content[at : at + size] * 3
    if draw(st.booleans()):
        return fix_ogg_checksums(fix_png_checksums(bytes(content)))
    return bytes(content)


@pytest.mark.parametrize("modality", MODALITIES)
@settings(max_examples=80)
@given(data=st.data())
def test_damaged_files_are_read_correctly_or_refused_by_name(folder, modality, data):
    files, adapters = MODALITIES[modality]
    path = folder / "damaged.dat"
    path.write_bytes(data.draw(damaged(files)))
    for adapter in adapters:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            contracts.check_reader(adapter, path)


@pytest.mark.parametrize("modality", ["image", "audio"])
@settings(max_examples=80)
@given(data=st.data())
def test_a_truncated_file_is_read_whole_or_refused(folder, modality, data):
    files, adapters = MODALITIES[modality]
    adapter = adapters[0]
    content = files[data.draw(st.sampled_from(sorted(files)))]
    path = folder / "cut.dat"
    path.write_bytes(content)
    whole = contracts.check_reader(adapter, path)
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    cut = contracts.check_reader(adapter, path)
    if cut is not None and UNKNOWN_LENGTH not in cut.notes:
        assert whole is not None
        assert cut.data.tobytes() == whole.data.tobytes()


def test_a_flipped_bit_in_an_ogg_page_is_detected(tmp_path):
    refused(AudioAdapter(), tmp_path / "a.ogg", forged.flip_bit(SOUNDS["OGG-VORBIS"]))


def test_an_eps_program_named_as_a_png_is_not_run(tmp_path):
    program = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({tmp_path}/ran) (w) file closefile\nshowpage\n"
    assert "is not an image in a supported format" in refused(ImageAdapter(), tmp_path / "a.png", program.encode())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", [n for n in PICTURES if n.split("-")[0] in ("ICO", "PCX", "SGI", "DDS")])
def test_pictures_of_unsupported_formats_are_refused(tmp_path, name):
    assert "is not an image in a supported format: PNG, JPEG" in refused(
        ImageAdapter(), tmp_path / "a.png", PICTURES[name]
    )


@pytest.mark.parametrize("name", ["AU-PCM_16", "CAF-ALAC_16", "W64-PCM_16", "VOC-PCM_U8"])
def test_sounds_of_unsupported_formats_are_refused(tmp_path, name):
    assert "supported are WAV, AIFF, FLAC, Ogg and MP3" in refused(AudioAdapter(), tmp_path / "a.wav", SOUNDS[name])


def resized(name, old, new):
    """The picture with another size in its header in place of 9 x 6."""
    content, count = PICTURES[name], PICTURES[name].count(old)
    assert count
    return content.replace(old, new)


@pytest.mark.parametrize(
    "content",
    [
        forged.png(2**31 - 1, 2**31 - 1),
        b"P6 60000 60000 255\n",
        resized("GIF-P", struct.pack("<HH", 9, 6), struct.pack("<HH", 65535, 65535)),
        resized("BMP-RGB", struct.pack("<ii", 9, 6), struct.pack("<ii", 60_000, 60_000)),
        resized("TGA-RGB", struct.pack("<HH", 9, 6), struct.pack("<HH", 65535, 65535)),
        resized("TIFF-RGB", struct.pack("<HHIHH", 256, 4, 1, 9, 0), struct.pack("<HHII", 256, 4, 1, 10**9)),
    ],
    ids=["png", "ppm", "gif", "bmp", "tga", "tiff"],
)
def test_pictures_of_huge_sizes_are_refused_before_decoding(tmp_path, content):
    assert refused(ImageAdapter(), tmp_path / "a.png", content).startswith("is too large to be decoded safely: ")


@pytest.mark.skipif(not features.check("webp"), reason="this Pillow was built without WebP")
def test_a_webp_above_the_largest_size_of_its_format_is_refused(tmp_path):
    content = bytearray(PICTURES["WEBP-animated"])
    content[24:30] = b"\xff" * 6  # canvas size minus one
    reason = refused(ImageAdapter(), tmp_path / "a.webp", bytes(content))
    assert reason.startswith(("is not an image in a supported", "is too large to be decoded", "cannot be decoded"))


@pytest.mark.parametrize(("name", "body"), [(b"zTXt", b"Comment\0\0"), (b"iTXt", b"Comment\0\1\0\0\0")])
def test_text_in_a_png_may_not_unpack_to_more_than_a_megabyte(tmp_path, name, body):
    bomb = body + zlib.compress(bytes(2**22), 9)
    content = forged.png(2, 1, (name, bomb), pixels=bytes([0, *range(6)]))
    reason = refused(ImageAdapter(), tmp_path / "a.png", content)
    assert reason == "cannot be decoded: a text or profile in it unpacks to more than a megabyte"


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_very_small_and_very_long_pictures_are_read_exactly(tmp_path, size):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for adapter in (ImageAdapter(), ImageAdapter(scan="raster")):
        stream = accepted(adapter, tmp_path / "a.png")
        assert (adapter.pixels(stream) == pixels).all()
    assert len(ImageAdapter(size=(8, 8)).read(tmp_path / "a.png").data) == 192


@pytest.mark.parametrize("frames", [65, 2**20])
def test_a_flac_that_states_more_frames_than_it_has_is_refused(tmp_path, frames):
    assert refused(AudioAdapter(), tmp_path / "a.flac", forged.flac(frames)).startswith(TRUNCATED)


def test_the_limit_of_decoded_samples_grows_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("data_adapters.audio.decoding.MIN_SAMPLE_LIMIT", 1000)
    for name, samples, is_read in (("noise", None, True), ("silence", np.zeros(10**6, np.int16), False)):
        samples = np.random.default_rng(0).integers(-99, 99, 5000).astype(np.int16) if samples is None else samples
        soundfile.write(tmp_path / f"{name}.flac", samples, 8000)
        size = (tmp_path / f"{name}.flac").stat().st_size
        assert (len(samples) <= MAX_SAMPLES_PER_BYTE * size) == is_read
        assert (contracts.check_reader(AudioAdapter(), tmp_path / f"{name}.flac") is not None) == is_read


@pytest.mark.parametrize("coding", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM"])
def test_wavs_of_every_coding_are_read_to_the_last_frame(tmp_path, coding):
    channels = 1 if coding == "IMA_ADPCM" else 6
    for frames in (0, 1, 64):
        tone = np.sin(np.arange(frames * channels)).reshape(frames, channels) / 2
        soundfile.write(tmp_path / "a.wav", tone, 8000, subtype=coding)
        length = len(accepted(AudioAdapter(), tmp_path / "a.wav").data) // (2 * channels)
        assert length >= frames if coding == "IMA_ADPCM" else length == frames  # ADPCM is coded in blocks
        assert len(accepted(AudioAdapter(channels=1), tmp_path / "a.wav").data) == 2 * length


def test_a_coding_whose_end_libsndfile_does_not_know_is_refused(tmp_path):
    reason = refused(AudioAdapter(), tmp_path / "a.wav", SOUNDS["WAV-G721_32"])
    assert reason.endswith("which is not supported; convert it to 16 bits first")


@pytest.mark.parametrize(("size", "frames"), [(0, 64), (128, 64), (100, 50)])
def test_a_wav_with_a_wrong_size_is_read_whole_or_with_a_note(tmp_path, size, frames):
    content = forged.wav(size)
    (tmp_path / "a.wav").write_bytes(content[:4] + bytes(4) + content[8:] if size == 0 else content)
    stream = accepted(AudioAdapter(), tmp_path / "a.wav")
    assert len(stream.data) == 2 * frames
    assert ("data after its samples was ignored: its header may be wrong" in stream.notes) == (frames < 64)


@pytest.mark.parametrize("size", [129, 130, 10**6, 0x7FFEFFFF])
def test_a_wav_that_states_more_than_it_has_is_refused(tmp_path, size):
    assert refused(AudioAdapter(), tmp_path / "a.wav", forged.wav(size)).startswith("is truncated")


@pytest.mark.parametrize("rest", [b"", b"\0" * 30, b"LIST\4\0\0\0INFO", b"id3 \1\0\0\0x\0"])
def test_a_sound_with_valid_chunks_after_its_samples_has_no_note(tmp_path, rest):
    (tmp_path / "a.wav").write_bytes(SOUNDS["WAV-PCM_16"] + rest)
    assert AudioAdapter().read(tmp_path / "a.wav").notes == ()
