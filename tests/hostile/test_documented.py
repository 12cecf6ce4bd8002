"""The tables of docs/hostile_files.md: each row is tried with a file, and its messages are compared."""

import contextlib
import gzip
import io
import os
import re
import socket
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from data_adapters import AudioAdapter, ByteStream, FileAdapter, ImageAdapter, MediaError, TextAdapter
from data_adapters.audio.decoding import MIN_SAMPLE_LIMIT
from fuzz import contracts, forged, seeds

PAGE = (Path(__file__).parents[2] / "docs" / "hostile_files.md").read_text(encoding="utf-8")
PICTURES, SOUNDS, TEXTS = seeds.pictures(), seeds.sounds(), seeds.texts()
PNG, WAV, MP3 = PICTURES["PNG-RGB"], SOUNDS["WAV-PCM_16"], SOUNDS["MP3-MPEG_LAYER_III"]
OGG = SOUNDS["OGG-VORBIS"]
FREE_BIT_RATE = (bytes([0xFF, 0xFB, 0x00, 0xC0]) + bytes(413)) * 9

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows has no pipes and devices among its files")


def png_of(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def wav_of(samples, rate=8000, **options):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", **options)
    return file.getvalue()


def bind_socket(path):
    with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(path.parent):  # sockets have short paths
        listening.bind(path.name)


def link_outside(path):
    path.with_name("outside").write_bytes(PNG)
    path.symlink_to("outside")


def make_huge(path):
    path.touch()
    try:
        os.truncate(path, 2**43)
    except OSError:
        pytest.skip("this file system holds no file of 8 TiB")


IMAGE, AUDIO, TEXT, FILE = ImageAdapter(), AudioAdapter(), TextAdapter(), FileAdapter()
NO_PERMISSION, RAW_NAME = object(), object()
PROFILE_BOMB = (b"iCCP", b"profile\0\0" + zlib.compress(bytes(2**22)))

ROWS: dict[str, dict[str, tuple[Any, Any]]] = {
    "Any file": {
        "pipe": (FILE, os.mkfifo),
        "socket": (FILE, bind_socket),
        "device, such as a link to /dev/zero": (FILE, lambda path: path.symlink_to("/dev/zero")),
        "link to a file outside the data": (IMAGE, link_outside),
        "broken link": (FILE, lambda path: path.symlink_to("missing")),
        "link to itself": (FILE, lambda path: path.symlink_to(path)),
        "folder named a.png": (IMAGE, lambda path: path.mkdir()),
        "no read permission": (FILE, NO_PERMISSION),
        "larger than memory": (FILE, make_huge),
        "name that is not UTF-8": (FILE, RAW_NAME),
    },
    "Images": {
        "empty": (IMAGE, b""),
        "text named a.png": (IMAGE, b"some text"),
        "sound named a.png": (IMAGE, WAV),
        "PNG named a.jpg": (IMAGE, PNG),
        "other formats (PCX, ICO, SGI, EPS)": (IMAGE, PICTURES["PCX-RGB"]),
        "truncated PNG or JPEG": (IMAGE, PICTURES["JPEG-RGB"][:-100]),
        "PNG without its last chunk": (IMAGE, PNG[:-12]),
        "PNG with a flipped bit": (IMAGE, forged.flip_bit(PNG)),
        "header with more than 89 million pixels": (IMAGE, forged.png(60_000, 60_000, pixels=bytes(100))),
        "PNG with a text or profile that unpacks to more than a megabyte": (
            IMAGE,
            forged.png(2, 1, PROFILE_BOMB, pixels=bytes([0, *range(6)])),
        ),
        "1 x 1 or 1 x 5000 pixels": (IMAGE, png_of(np.zeros((5000, 1, 3), np.uint8))),
        "palette": (IMAGE, PICTURES["PNG-P"]),
        "palette mode without a palette": (IMAGE, forged.png(2, 1, colour_type=3, pixels=bytes(3))),
        "CMYK": (IMAGE, PICTURES["TIFF-CMYK"]),
        "16 bits a sample": (IMAGE, PICTURES["PNG-I;16"]),
        "floating-point samples": (IMAGE, PICTURES["TIFF-F"]),
        "several images (animations)": (IMAGE, PICTURES["GIF-animated"]),
    },
    "Sound": {
        "empty": (AUDIO, b""),
        "image named a.wav": (AUDIO, PNG),
        "other formats (AU, CAF, W64)": (AUDIO, SOUNDS["AU-PCM_16"]),
        "coding without a detectable end (GSM, G.721)": (AUDIO, SOUNDS["WAV-GSM610"]),
        "truncated WAV or Ogg": (AUDIO, WAV[:-10]),
        "truncated FLAC, or with a flipped bit": (AUDIO, forged.flip_bit(SOUNDS["FLAC-PCM_16"], 0.9)),
        "truncated MP3 without a stated length": (AUDIO, MP3[MP3.find(MP3[:2], 2) : -9]),
        "truncated WAV or AIFF behind an ID3 tag": (AUDIO, b"ID3\3\0\0\0\0\0\x09" + bytes(9) + WAV[:-10]),
        "MP3 with other bytes than tags between its frames": (AUDIO, MP3 + b"anything"),
        "MP3 of free bit rate": (AUDIO, FREE_BIT_RATE),
        "several sounds end to end (chained Ogg, joined FLAC, MP3, WAV)": (AUDIO, MP3 * 3),
        "several sounds of different rates, channels or codings": (AUDIO, WAV + wav_of(np.zeros(9), 44100)),
        "Ogg with a page whose checksum is wrong": (AUDIO, forged.flip_bit(OGG, 0.9)),
        "Ogg streams side by side (video)": (AUDIO, OGG[:58] + OGG),
        "other data behind a FLAC or Ogg sound": (AUDIO, OGG + b"anything"),
        "WAV that states more data than it has": (AUDIO, forged.wav(200)),
        "WAV that states less data than it has": (AUDIO, forged.wav(100)),
        "WAV of size 0 or 0xFFFFFFFF": (AUDIO, forged.wav(2**32 - 1)),
        "FLAC that states 2^36 samples": (AUDIO, forged.flac(2**36 - 1)),
        "small FLAC with a very long sound": (AUDIO, forged.flac(MIN_SAMPLE_LIMIT + 1) + bytes(2000)),
        "1 Hz, to be resampled to 48000 Hz": (AudioAdapter(rate=48_000), wav_of(np.ones(3000), 1)),
        "8 bits, or six channels": (AUDIO, wav_of(np.zeros((9, 6)), subtype="PCM_U8")),
        "24 or 32 bits, or floating-point": (AUDIO, SOUNDS["WAV-PCM_24"]),
        "infinite or NaN samples": (AUDIO, wav_of(np.array([0, np.nan]), subtype="FLOAT")),
        "channels that cancel each other, to be mixed to one": (
            AudioAdapter(channels=1),
            wav_of(np.array([[0.5, -0.5], [-0.25, 0.25]])),
        ),
        "no samples": (AUDIO, wav_of(np.zeros(0))),
    },
    "Text, and any file as its bytes": {
        "empty": (TEXT, b""),
        "not UTF-8, or cut inside a character": (TEXT, TEXTS["cut"]),
        "byte order mark, NULs, any line ends": (TEXT, b"\xef\xbb\xbf\0\r\n\r"),
        "image named a.txt": (TEXT, PNG),
        "compressed or packed (gzip, zstd, bzip2, xz, ZIP, Parquet, PDF, SQLite), named a.txt": (
            TEXT,
            gzip.compress(b"words", mtime=0),
        ),
    },
}


def table(section):
    """The rows below a heading: file -> result."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {file.strip(): result.strip() for file, result in rows if file.strip() != "file"}


@contextlib.contextmanager
def example(content):
    """The path of a file with this content, or made by this function, in a folder that every user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder, os.fsdecode(b"\xff.bin") if content is RAW_NAME else "a.png")
        if callable(content):
            content(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else b"anything")
        drop_root = content is NO_PERMISSION and os.geteuid() == 0  # root may read everything
        if content is NO_PERMISSION:
            path.chmod(0)
        if drop_root:
            os.seteuid(65534)
        try:
            yield path
        finally:
            if drop_root:
                os.seteuid(0)


@pytest.mark.parametrize("section", ROWS)
def test_every_row_has_an_example(section):
    assert table(section).keys() == ROWS[section].keys()


@pytest.mark.parametrize(("section", "file"), [(section, file) for section, rows in ROWS.items() for file in rows])
def test_the_result_is_as_documented(section, file):
    adapter, content = ROWS[section][file]
    result = table(section)[file]
    messages = re.findall(r"`(.*?)`", result)
    with example(content) as path:
        if "refused: " in result:
            with pytest.raises(MediaError) as caught:
                adapter.read(path)
            assert caught.value.reason.startswith(messages[0])
        else:
            assert result.startswith("read")
            stream = contracts.check_reader(adapter, path)
            assert isinstance(stream, ByteStream)
            assert "with the note" not in result or messages[0] in stream.notes
            assert len(stream.data) or "empty stream" in result
