"""The tables of docs/hostile_files.md: a file for each row, and the words that the row has for it."""

import contextlib
import io
import os
import re
import socket
import struct
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
from fuzz import contracts, seeds

PAGE = (Path(__file__).parents[2] / "docs" / "hostile_files.md").read_text(encoding="utf-8")
PICTURES, SOUNDS, TEXTS = seeds.pictures(), seeds.sounds(), seeds.texts()
PNG, WAV = PICTURES["PNG-RGB"], SOUNDS["WAV-PCM_16"]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows has no pipes and devices among its files")


def flipped(content, share=0.6):
    at = int(len(content) * share)
    return content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :]


def png(width, height, *more, kind=2, pixels=b""):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


def saved(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def flac(frames):
    content = SOUNDS["FLAC-PCM_16"]
    packed = int.from_bytes(content[18:26], "big") >> 36 << 36 | frames
    return content[:18] + packed.to_bytes(8, "big") + content[26:]


def wav(size):
    return WAV[:40] + struct.pack("<I", size) + WAV[44:]


def wav_of(samples, rate=8000, **options):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", **options)
    return file.getvalue()


def bound_socket(path):
    with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(path.parent):  # long paths do not fit
        listening.bind(path.name)


def linked(path):
    path.with_name("outside").write_bytes(PNG)
    path.symlink_to("outside")


def huge(path):
    path.touch()
    os.truncate(path, 2**43)


BOMB = zlib.compress(bytes(2**22))
IMAGE, AUDIO, TEXT = ImageAdapter(), AudioAdapter(), TextAdapter()

ROWS: dict[str, dict[str, tuple[Any, Any]]] = {
    "Anything": {
        "a pipe": (FileAdapter(), os.mkfifo),
        "a socket": (FileAdapter(), bound_socket),
        "a device, such as a link to /dev/zero": (FileAdapter(), lambda path: path.symlink_to("/dev/zero")),
        "a link to a file outside the data": (IMAGE, linked),
        "a link to nothing": (FileAdapter(), lambda path: path.symlink_to("nothing")),
        "a link to itself": (FileAdapter(), lambda path: path.symlink_to(path)),
        "a folder called a.png": (IMAGE, lambda path: path.mkdir()),
        "not to be read by you": (FileAdapter(), None),
        "larger than the memory": (FileAdapter(), huge),
        "of a name that is no UTF-8": (FileAdapter(), b"anything"),
    },
    "Pictures": {
        "empty": (IMAGE, b""),
        "a text called a.png": (IMAGE, b"some text"),
        "a sound called a.png": (IMAGE, WAV),
        "a PNG called a.jpg": (IMAGE, PNG),
        "of another kind (PCX, ICO, SGI, EPS)": (IMAGE, PICTURES["PCX-RGB"]),
        "a PNG or JPEG cut short": (IMAGE, PICTURES["JPEG-RGB"][:-100]),
        "a PNG without its last chunk": (IMAGE, PNG[:-12]),
        "a PNG with a flipped bit": (IMAGE, flipped(PNG)),
        "of more than 89 million pixels by its header": (IMAGE, png(60_000, 60_000)),
        "a PNG with a text or a profile that unpacks to more than a megabyte": (
            IMAGE,
            png(2, 1, (b"iCCP", b"profile\0\0" + BOMB), pixels=bytes([0, *range(6)])),
        ),
        "of 1 x 1 or 1 x 5000 pixels": (IMAGE, saved(np.zeros((5000, 1, 3), np.uint8))),
        "a palette picture": (IMAGE, PICTURES["PNG-P"]),
        "a palette picture without a palette": (IMAGE, png(2, 1, kind=3, pixels=bytes(3))),
        "CMYK": (IMAGE, PICTURES["TIFF-CMYK"]),
        "of 16 bits a sample": (IMAGE, PICTURES["PNG-I;16"]),
        "of floating-point samples": (IMAGE, PICTURES["TIFF-F"]),
        "of several pictures": (IMAGE, PICTURES["GIF-animated"]),
    },
    "Sound": {
        "empty": (AUDIO, b""),
        "a picture called a.wav": (AUDIO, PNG),
        "of another kind (AU, CAF, W64)": (AUDIO, SOUNDS["AU-PCM_16"]),
        "of a coding without an end (GSM, G.721)": (AUDIO, SOUNDS["WAV-GSM610"]),
        "a WAV or Ogg cut short": (AUDIO, WAV[:-10]),
        "a FLAC cut short, or with a flipped bit": (AUDIO, flipped(SOUNDS["FLAC-PCM_16"], 0.9)),
        "an MP3 without a length that is cut short": (
            AUDIO,
            SOUNDS["MP3-MPEG_LAYER_III"][SOUNDS["MP3-MPEG_LAYER_III"].find(SOUNDS["MP3-MPEG_LAYER_III"][:2], 2) : -9],
        ),
        "a WAV that says more than it has": (AUDIO, wav(200)),
        "a WAV that says less than it has": (AUDIO, wav(100)),
        "a WAV whose size is 0, or 0xFFFFFFFF": (AUDIO, wav(2**32 - 1)),
        "a FLAC that claims 2^36 samples": (AUDIO, flac(2**36 - 1)),
        "a small FLAC of very much sound": (AUDIO, flac(MIN_SAMPLE_LIMIT + 1) + bytes(2000)),
        "a sound of 1 Hz, to be resampled to 48000 Hz": (AudioAdapter(rate=48_000), wav_of(np.ones(3000), 1)),
        "of 8 bits, or of six channels": (AUDIO, wav_of(np.zeros((9, 6)), subtype="PCM_U8")),
        "of 24 or 32 bits, or floating-point": (AUDIO, SOUNDS["WAV-PCM_24"]),
        "of samples that are no numbers": (AUDIO, wav_of(np.array([0, np.nan]), subtype="FLOAT")),
        "of no samples": (AUDIO, wav_of(np.zeros(0))),
    },
    "Text, and any file as its bytes": {
        "empty": (TEXT, b""),
        "no UTF-8, or cut inside a character": (TEXT, TEXTS["cut"]),
        "with a byte order mark, NULs, or any line ends": (TEXT, b"\xef\xbb\xbf\0\r\n\r"),
        "a picture called a.txt": (TEXT, PNG),
    },
}


def table(section):
    """The rows below a heading: what a file is -> what becomes of it."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {first.strip(): then.strip() for first, then in rows if first.strip() != "a file that is"}


@contextlib.contextmanager
def made(first, make):
    """The path of such a file, in a folder that everybody may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder, os.fsdecode(b"\xff.bin") if "no UTF-8" in first and make == b"anything" else "a.png")
        if callable(make):
            make(path)
        else:
            path.write_bytes(make or b"secret")
        if make is None:
            path.chmod(0)
        is_root = make is None and os.geteuid() == 0
        if is_root:  # who may read everything
            os.seteuid(65534)
        try:
            yield path
        finally:
            if is_root:
                os.seteuid(0)


@pytest.mark.parametrize("section", ROWS)
def test_every_row_has_an_example(section):
    assert table(section).keys() == ROWS[section].keys()


@pytest.mark.parametrize(("section", "first"), [(section, first) for section, rows in ROWS.items() for first in rows])
def test_what_a_row_says_is_what_happens(section, first):
    adapter, make = ROWS[section][first]
    then = table(section)[first]
    words = re.findall(r"`(.*?)`", then)
    with made(first, make) as path:
        if "refused: " in then:
            with pytest.raises(MediaError) as caught:
                adapter.read(path)
            assert caught.value.reason.startswith(words[0])
        else:
            assert then.startswith("read")
            stream = contracts.check_reader(adapter, path)
            assert isinstance(stream, ByteStream)
            assert not ("with the note" in then and words[0] not in stream.notes)
            assert len(stream.data) or "no bytes" in then
