"""Files taken apart give back the very same file, by the recipe that is meant for them."""

import io
import json
import struct
import tempfile
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_adapters import AudioAdapter, FileAdapter, ImageAdapter, TextAdapter
from megabyte_mm.compression.recipes import filler_masks, is_whole_file, rebuild_file, split_file
from megabyte_mm.compression.recipes.tiles import Tiling


def split(tmp_path, adapter, content, name, window=64, content_only=False):
    """Split a file of that content, and assert that its parts rebuild it."""
    path = tmp_path / name
    path.write_bytes(content)
    parts = split_file(adapter, path, window, content_only)
    recipe = json.loads(json.dumps(parts.recipe))
    assert all(len(data) <= window for data in parts.windows)
    assert len(filler_masks(adapter, recipe, len(parts.windows))[0]) == len(parts.windows)
    if is_whole_file(parts.recipe):
        assert rebuild_file(adapter, recipe, parts.windows, parts.extra) == content
    return parts


def png(pixels, filters, level=9, cut=1000, before=b"", strategy=zlib.Z_FILTERED, colour=2):
    """A PNG file with a filter of its own for each line, its pixels in several chunks."""
    height, width = pixels.shape[:2]
    lines = pixels.reshape(height, -1).astype(int)
    channels = lines.shape[1] // width
    rows = []
    for y, kind in enumerate(filters):
        above = lines[y - 1] if y else np.zeros_like(lines[0])
        left, corner = (np.concatenate([np.zeros(channels, int), row[:-channels]]) for row in (lines[y], above))
        near = [abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)]
        paeth = np.where((near[0] <= near[1]) & (near[0] <= near[2]), left, np.where(near[1] <= near[2], above, corner))
        guess = [0, left, above, (left + above) // 2, paeth][kind]
        rows.append(bytes([kind]) + ((lines[y] - guess) % 256).astype(np.uint8).tobytes())
    deflate = zlib.compressobj(level, zlib.DEFLATED, 15, 8, strategy)
    data = deflate.compress(b"".join(rows)) + deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    pieces = [data[start : start + cut] for start in range(0, len(data), cut)]
    chunks = [
        (b"IHDR", header),
        *([(b"tEXt", before)] if before else []),
        *((b"IDAT", p) for p in pieces),
        (b"IEND", b""),
    ]
    packed = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def pixels(height, width, channels=3, seed=0):
    drift = np.random.default_rng(seed).integers(0, 7, (height, width, channels)).cumsum(1)
    return drift.astype(np.uint8)


@settings(max_examples=20)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=12),
    st.sampled_from([1, 4, 6, 9]),
    st.sampled_from(range(5)),
    st.integers(1, 40),
)
def test_a_png_of_any_filters_and_parameters_of_zlib_is_made_of_its_pixels_again(filters, level, strategy, cut):
    content = png(pixels(len(filters), 11), filters, level, cut, b"Title\0Tea", strategy)
    with tempfile.TemporaryDirectory() as folder:
        parts = split(Path(folder), ImageAdapter(size=(8, 8)), content, "a.png", 192)
    assert parts.recipe["kind"] == "tiles"
    assert sum(map(len, parts.windows)) == -(-len(filters) // 8) * 2 * 192


@pytest.mark.parametrize("size", [(8, 8), (5, 13), (16, 24), (1, 1), (3, 40)])
@pytest.mark.parametrize("scan", ["patch", "raster"])
def test_tiles_of_any_picture_join_again_and_their_filler_repeats_the_pixel_before(size, scan):
    tiling = Tiling(size[1], size[0], ImageAdapter(size=(8, 12), scan=scan))
    picture = pixels(size[1], size[0])
    tiles = tiling.cut(picture)
    assert len(tiles) == tiling.count
    for tile, mask in zip(tiles, tiling.filler_masks, strict=True):
        if mask is not None:
            positions = np.flatnonzero(mask)
            assert np.array_equal(tile[positions], tile[positions - 3])
    filler = sum(0 if mask is None else mask.sum() for mask in tiling.filler_masks)
    assert len(tiles) * 8 * 12 * 3 - filler == picture.size
    assert np.array_equal(tiling.join(tiles), picture)


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {"compress_level": 3}),
        ("BMP", {}),
        ("PPM", {}),
        ("TIFF", {}),
        ("WEBP", {"lossless": True, "exact": True}),
    ],
)
def test_what_pillow_wrote_it_writes_again(tmp_path, format, options):
    file = io.BytesIO()
    Image.fromarray(pixels(20, 9)).save(file, format, **options)
    parts = split(tmp_path, ImageAdapter(size=(8, 8)), file.getvalue(), f"a.{format.lower()}", 192)
    assert parts.recipe["kind"] == "tiles"
    assert len(parts.windows) == 6


def made_png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        made_png(Image.fromarray(pixels(8, 8)).convert("RGBA")),
        made_png(Image.fromarray(pixels(8, 8)).quantize(4)),
        made_png(Image.fromarray(pixels(8, 8)[..., 0])),
        made_png(Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8))),
        png(pixels(8, 8), [0] * 8)[:-9],
        png(pixels(8, 8), [0] * 8) + b"and more",
        png(pixels(8, 8), [1] * 8).replace(b"IEND", b"IENd"),
        b"no picture",
        b"",
    ],
    ids=["alpha", "palette", "grey", "16 bits", "cut", "longer", "damaged", "text", "empty"],
)
def test_other_pictures_are_kept_byte_by_byte_and_come_back_too(tmp_path, content):
    parts = split(tmp_path, ImageAdapter(size=(8, 8)), content, "a.png", 192)
    assert parts.recipe["kind"] == ("tiles" if content.endswith(b"and more") else "bytes")


def test_a_png_that_nobody_can_write_again_is_kept_whole_unless_its_pixels_are_enough(tmp_path):
    plain = png(pixels(8, 8), [2] * 8, level=0)
    data = zlib.compress(zlib.decompress(plain[plain.find(b"IDAT") + 4 : plain.find(b"IEND") - 8]), 1)
    strange = zlib.compressobj(1)
    lines = zlib.decompress(data)
    deflated = (
        strange.compress(lines[:50]) + strange.flush(zlib.Z_SYNC_FLUSH) + strange.compress(lines[50:]) + strange.flush()
    )
    chunk = b"IDAT" + deflated
    content = plain[:33] + struct.pack(">I", len(deflated)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    content += png(pixels(1, 1), [0])[-12:]
    adapter = ImageAdapter(size=(8, 8))
    assert split(tmp_path, adapter, content, "a.png", 192).recipe["kind"] == "bytes"
    parts = split(tmp_path, adapter, content, "a.png", 192, content_only=True)
    assert not is_whole_file(parts.recipe)
    made = rebuild_file(adapter, parts.recipe, parts.windows, parts.extra)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(made))), pixels(8, 8))


def sound(format, subtype="PCM_16", channels=1, frames=300):
    file = io.BytesIO()
    samples = np.random.default_rng(0).integers(-2000, 2000, (frames, channels), dtype=np.int16)
    soundfile.write(file, samples, 8000, format=format, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "name", "kind"),
    [
        (sound("WAV"), "a.wav", "written"),
        (sound("WAV", channels=2), "a.wav", "written"),
        (sound("FLAC"), "a.flac", "written"),
        (sound("WAV")[:36] + b"LIST\x04\0\0\0INFO" + sound("WAV")[36:], "a.wav", "around"),
        (sound("WAV") + b"LIST\x04\0\0\0INFO", "a.wav", "around"),
        (sound("WAV", "PCM_24"), "a.wav", "bytes"),
        (sound("OGG", "VORBIS"), "a.ogg", "bytes"),
        (sound("WAV")[:-7], "a.wav", "bytes"),
    ],
    ids=["wav", "stereo", "flac", "chunk before", "chunk after", "24 bits", "vorbis", "cut"],
)
def test_sounds_are_made_of_their_samples_again_where_they_can(tmp_path, content, name, kind):
    parts = split(tmp_path, AudioAdapter(), content, name)
    assert parts.recipe["kind"] == kind
    if kind in ("written", "around"):
        assert sum(map(len, parts.windows)) == 600 * (content[22] if name == "a.wav" else 1)


@pytest.mark.parametrize("content", [b"", b"a", b"\0" * 200, bytes(range(256)), "鸡蛋\r\n".encode() * 20, b"\xff\xfe"])
@pytest.mark.parametrize("adapter", [TextAdapter(), FileAdapter(), ImageAdapter(size=(4, 4)), AudioAdapter()])
def test_any_bytes_come_back_through_any_adapter(tmp_path, adapter, content):
    for name in ("a.txt", "a.png", "a.wav", "a"):
        split(tmp_path, adapter, content, name)


def test_a_bomb_in_a_png_is_not_unpacked(tmp_path):
    lines = zlib.compress(bytes(2**26))
    chunk = b"IDAT" + lines
    small = png(pixels(1, 1), [0])
    content = small[:33] + struct.pack(">I", len(lines)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + small[-12:]
    tracemalloc.start()
    assert split(tmp_path, ImageAdapter(size=(8, 8)), content, "a.png", 192).recipe["kind"] == "bytes"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


def test_tiles_that_are_too_few_for_the_picture_are_refused():
    recipe = {"kind": "tiles", "shape": [16, 16]}
    with pytest.raises(ValueError, match="3 tiles of a picture of 16x16"):
        filler_masks(ImageAdapter(size=(8, 8)), recipe, 3)
