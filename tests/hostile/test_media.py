"""Pictures and sounds that are damaged, cut, called something else, or would decode to more than is sane."""

import io
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
from data_adapters.audio.decoding import MAX_SAMPLES_PER_BYTE, MIN_SAMPLE_LIMIT
from fuzz import contracts, seeds
from fuzz.mutators import ogg_repaired, png_repaired

PICTURES, SOUNDS, TEXTS = seeds.pictures(), seeds.sounds(), seeds.texts()
MODALITIES: dict[str, tuple[dict[str, bytes], list[Adapter]]] = {
    "image": (PICTURES, [ImageAdapter(scan="raster"), ImageAdapter("L", (8, 8), patch=2)]),
    "audio": (SOUNDS, [AudioAdapter(), AudioAdapter(rate=8000, channels=1, encoding="mulaw", container="flac")]),
    "text": (TEXTS, [TextAdapter()]),
    "file": (TEXTS | PICTURES, [FileAdapter()]),
}
CUT = ("is truncated", "cannot be decoded")
NO_END = "an MP3 file that does not state its length: the end may be missing"


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
    """A file with bits flipped, pieces cut out, put in, or taken from another; checksums may be set right again."""
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
        return ogg_repaired(png_repaired(bytes(content)))
    return bytes(content)


@pytest.mark.parametrize("modality", MODALITIES)
@settings(max_examples=80)
@given(data=st.data())
def test_damaged_files_are_read_properly_or_refused_by_name(folder, modality, data):
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
def test_a_file_cut_anywhere_is_whole_or_refused(folder, modality, data):
    files, adapters = MODALITIES[modality]
    adapter = adapters[0]
    content = files[data.draw(st.sampled_from(sorted(files)))]
    path = folder / "cut.dat"
    path.write_bytes(content)
    whole = contracts.check_reader(adapter, path)
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    cut = contracts.check_reader(adapter, path)
    assert cut is None or NO_END in cut.notes or (whole is not None and cut.data.tobytes() == whole.data.tobytes())


@pytest.mark.parametrize("name", ["PNG-RGB", "FLAC-PCM_16", "OGG-VORBIS"])
def test_a_flipped_bit_among_checked_bytes_is_found(tmp_path, name):
    adapter = ImageAdapter() if name in PICTURES else AudioAdapter()
    content = bytearray((PICTURES | SOUNDS)[name])
    content[len(content) * 2 // 3] ^= 16
    refused(adapter, tmp_path / "a.dat", bytes(content))


def test_a_file_is_what_it_holds_whatever_its_name(tmp_path):
    (tmp_path / "a.jpg").write_bytes(PICTURES["PNG-RGB"])
    (tmp_path / "b.png").write_bytes(PICTURES["PNG-RGB"])
    assert (ImageAdapter().read(tmp_path / "a.jpg").data == ImageAdapter().read(tmp_path / "b.png").data).all()
    (tmp_path / "a.wav").write_bytes(SOUNDS["FLAC-PCM_16"])
    (tmp_path / "b.flac").write_bytes(SOUNDS["FLAC-PCM_16"])
    assert (AudioAdapter().read(tmp_path / "a.wav").data == AudioAdapter().read(tmp_path / "b.flac").data).all()


@pytest.mark.parametrize("content", [b"", b"some text", SOUNDS["WAV-PCM_16"]], ids=["empty", "text", "wav"])
def test_what_is_no_picture_is_refused_whatever_its_name(tmp_path, content):
    assert "is not an image in a supported format" in refused(ImageAdapter(), tmp_path / "a.png", content)


@pytest.mark.parametrize("content", [b"", b"some text", PICTURES["PNG-RGB"]], ids=["empty", "text", "png"])
def test_what_is_no_sound_is_refused_whatever_its_name(tmp_path, content):
    assert refused(AudioAdapter(), tmp_path / "a.wav", content) == "cannot be decoded: Format not recognised."


def test_a_program_under_the_name_of_a_picture_is_not_run(tmp_path):
    program = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({tmp_path}/ran) (w) file closefile\nshowpage\n"
    assert "is not an image in a supported format" in refused(ImageAdapter(), tmp_path / "a.png", program.encode())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", [n for n in PICTURES if n.split("-")[0] in ("ICO", "PCX", "SGI", "DDS")])
def test_pictures_of_other_kinds_are_refused(tmp_path, name):
    assert "is not an image in a supported format: PNG, JPEG" in refused(
        ImageAdapter(), tmp_path / "a.png", PICTURES[name]
    )


@pytest.mark.parametrize("name", ["AU-PCM_16", "CAF-ALAC_16", "W64-PCM_16", "VOC-PCM_U8"])
def test_sounds_of_other_kinds_are_refused(tmp_path, name):
    assert "supported are WAV, AIFF, FLAC, Ogg and MP3" in refused(AudioAdapter(), tmp_path / "a.wav", SOUNDS[name])


def png(width, height, *more, pixels=b""):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in chunks)


def resized(name, old, new):
    """The picture with other sizes in its header, which hold (9, 6) before."""
    content, count = PICTURES[name], PICTURES[name].count(old)
    assert count
    return content.replace(old, new)


@pytest.mark.parametrize(
    "content",
    [
        png(60_000, 60_000, pixels=bytes(100)),
        png(2**31 - 1, 2**31 - 1),
        b"P6 60000 60000 255\n",
        resized("GIF-P", struct.pack("<HH", 9, 6), struct.pack("<HH", 65535, 65535)),
        resized("BMP-RGB", struct.pack("<ii", 9, 6), struct.pack("<ii", 60_000, 60_000)),
        resized("TGA-RGB", struct.pack("<HH", 9, 6), struct.pack("<HH", 65535, 65535)),
        resized("TIFF-RGB", struct.pack("<HHIHH", 256, 4, 1, 9, 0), struct.pack("<HHII", 256, 4, 1, 10**9)),
    ],
    ids=["png", "png-most", "ppm", "gif", "bmp", "tga", "tiff"],
)
def test_pictures_of_huge_sizes_are_refused_before_they_are_decoded(tmp_path, content):
    assert refused(ImageAdapter(), tmp_path / "a.png", content).startswith("is too large to be decoded safely: ")


@pytest.mark.skipif(not features.check("webp"), reason="this Pillow was built without WebP")
def test_a_webp_of_more_than_its_largest_size_is_refused(tmp_path):
    content = bytearray(PICTURES["WEBP-animated"])
    content[24:30] = b"\xff" * 6  # the canvas, less one
    reason = refused(ImageAdapter(), tmp_path / "a.webp", bytes(content))
    assert reason.startswith(("is not an image in a supported format", "is too large to be decoded safely"))


@pytest.mark.parametrize(
    ("kind", "body"), [(b"zTXt", b"Comment\0\0"), (b"iTXt", b"Comment\0\1\0\0\0"), (b"iCCP", b"profile\0\0")]
)
def test_what_comes_with_a_picture_may_not_unpack_to_much(tmp_path, kind, body):
    bomb = body + zlib.compress(bytes(2**26), 9)
    reason = refused(ImageAdapter(), tmp_path / "a.png", png(2, 1, (kind, bomb), pixels=bytes([0, *range(6)])))
    assert reason == "cannot be decoded: Decompressed data too large for PngImagePlugin.MAX_TEXT_CHUNK"


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_very_small_and_very_long_pictures_are_read_exactly(tmp_path, size):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for adapter in (ImageAdapter(), ImageAdapter(scan="raster")):
        stream = accepted(adapter, tmp_path / "a.png")
        assert (adapter.pixels(stream) == pixels).all()
    assert len(ImageAdapter(size=(8, 8)).read(tmp_path / "a.png").data) == 192


def flac_that_claims(frames):
    content = SOUNDS["FLAC-PCM_16"]
    packed = int.from_bytes(content[18:26], "big") >> 36 << 36 | frames
    return content[:18] + packed.to_bytes(8, "big") + content[26:]


@pytest.mark.parametrize(
    ("frames", "reason"),
    [(2**36 - 1, "states no plausible length"), (65, CUT), (2**20, CUT)],
)
def test_a_flac_that_claims_more_than_it_has_is_refused(tmp_path, frames, reason):
    assert refused(AudioAdapter(), tmp_path / "a.flac", flac_that_claims(frames)).startswith(reason)


def test_a_small_file_of_very_much_sound_is_refused_before_it_is_decoded(tmp_path):
    reason = refused(AudioAdapter(), tmp_path / "a.flac", flac_that_claims(MIN_SAMPLE_LIMIT + 1) + bytes(2000))
    assert reason.startswith(f"is too large to be decoded safely: {MIN_SAMPLE_LIMIT + 1} frames of 1 channels in ")


def test_much_sound_in_a_large_file_and_silence_in_a_small_one_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("data_adapters.audio.decoding.MIN_SAMPLE_LIMIT", 1000)
    for name, samples, is_read in (("noise", None, True), ("silence", np.zeros(10**6, np.int16), False)):
        samples = np.random.default_rng(0).integers(-99, 99, 5000).astype(np.int16) if samples is None else samples
        soundfile.write(tmp_path / f"{name}.flac", samples, 8000)
        size = (tmp_path / f"{name}.flac").stat().st_size
        assert (len(samples) <= MAX_SAMPLES_PER_BYTE * size) == is_read
        assert (contracts.check_reader(AudioAdapter(), tmp_path / f"{name}.flac") is not None) == is_read


def test_a_rate_that_would_multiply_a_sound_is_refused(tmp_path):
    file = io.BytesIO()
    soundfile.write(file, np.ones(3000, np.int16), 1, format="WAV")
    reason = refused(AudioAdapter(rate=48_000), tmp_path / "a.wav", file.getvalue())
    assert reason == "states a rate of 1 Hz; resampled to 48000 Hz it would be too large"


@pytest.mark.parametrize("coding", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM"])
@pytest.mark.parametrize("frames", [0, 1, 64])
def test_wavs_of_every_coding_are_read_to_the_last_frame(tmp_path, coding, frames):
    channels = 1 if coding == "IMA_ADPCM" else 6
    tone = np.sin(np.arange(frames * channels)).reshape(frames, channels) / 2
    soundfile.write(tmp_path / "a.wav", tone, 8000, subtype=coding)
    stream = accepted(AudioAdapter(), tmp_path / "a.wav")
    got = len(stream.data) // (2 * channels)
    assert got >= frames if coding == "IMA_ADPCM" else got == frames  # ADPCM comes in blocks
    mono = accepted(AudioAdapter(channels=1), tmp_path / "a.wav")
    assert len(mono.data) == 2 * got


@pytest.mark.parametrize("coding", ["GSM610", "G721_32"])
def test_codings_that_libsndfile_cannot_measure_are_refused(tmp_path, coding):
    reason = refused(AudioAdapter(), tmp_path / "a.wav", SOUNDS[f"WAV-{coding}"])
    assert reason.endswith("which is not supported; convert it to 16 bits first")


def wav_that_says(size):
    content = SOUNDS["WAV-PCM_16"]
    return content[:40] + struct.pack("<I", size) + content[44:]


@pytest.mark.parametrize(("size", "kept"), [(0, 64), (0xFFFFFFFF, 64), (0x7FFFF000, 64), (128, 64), (100, 50)])
def test_a_wav_header_that_lies_about_its_length_loses_nothing_in_silence(tmp_path, size, kept):
    content = wav_that_says(size)
    (tmp_path / "a.wav").write_bytes(content[:4] + bytes(4) + content[8:] if size == 0 else content)
    stream = accepted(AudioAdapter(), tmp_path / "a.wav")
    assert len(stream.data) == 2 * kept
    assert ("data after its samples was ignored: its header may be wrong" in stream.notes) == (kept < 64)


@pytest.mark.parametrize("size", [129, 130, 10**6, 0x7FFEFFFF])
def test_a_wav_header_that_promises_more_is_refused(tmp_path, size):
    assert refused(AudioAdapter(), tmp_path / "a.wav", wav_that_says(size)).startswith("is truncated")


@pytest.mark.parametrize("rest", [b"", b"\0" * 30, b"LIST\4\0\0\0INFO", b"id3 \1\0\0\0x\0"])
def test_a_sound_with_proper_chunks_after_its_samples_needs_no_note(tmp_path, rest):
    (tmp_path / "a.wav").write_bytes(SOUNDS["WAV-PCM_16"] + rest)
    assert AudioAdapter().read(tmp_path / "a.wav").notes == ()


def test_a_palette_picture_without_a_palette_is_refused(tmp_path):
    header = struct.pack(">IIBBBBB", 2, 1, 8, 3, 0, 0, 0)
    content = png(2, 1, pixels=bytes(3)).replace(png(2, 1)[16:29], header)
    assert refused(ImageAdapter(), tmp_path / "a.png", png_repaired(content)).startswith("cannot be decoded: ")
