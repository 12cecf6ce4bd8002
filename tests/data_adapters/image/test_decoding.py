"""Image files of every kind: what is converted, by which rule, and what is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from data_adapters import ImageAdapter, MediaError

RGB, GREY = ImageAdapter("RGB", scan="raster"), ImageAdapter("L", scan="raster")
PIXELS = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
COLOURS = Image.fromarray(PIXELS)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def deep_png(colour_type, channels):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 2, 1, 16, colour_type, 0, 0, 0)
    body = zlib.compress(bytes(1 + 2 * 2 * channels))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def deep_tiff():
    """One RGB pixel of 16 bits, uncompressed."""
    tags = [(256, 1), (257, 1), (258, 122), (259, 1), (262, 2), (273, 128), (277, 3), (278, 1), (279, 6)]
    entries = b"".join(struct.pack("<HHII", tag, 3, 3 if tag == 258 else 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return (b"II*\0" + struct.pack("<I", 8) + directory).ljust(122, b"\0") + struct.pack("<3H", 16, 16, 16) + bytes(6)


def read(adapter, tmp_path, content, name="a.png"):
    """The stream's pixels as (n,) or (n, 3), and its notes."""
    (tmp_path / name).write_bytes(content)
    stream = adapter.read(tmp_path / name)
    return stream.data.reshape(-1, adapter.unit).squeeze(), stream.notes


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff"])
def test_the_exif_orientation_is_applied(tmp_path, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(COLOURS, kind, exif=exif)
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM"}
    turns |= {5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}
    expected: Image.Image = Image.open(io.BytesIO(encoded(COLOURS, kind)))
    if orientation in turns:
        expected = expected.transpose(Image.Transpose[turns[orientation]])
    (tmp_path / "a").write_bytes(content)
    stream = RGB.read(tmp_path / "a")
    assert (stream.format["width"], stream.format["height"]) == expected.size
    assert stream.data.tobytes() == expected.tobytes()


def test_turning_is_said(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read(RGB, tmp_path, encoded(COLOURS, "png", exif=exif))[1] == ("turned upright (EXIF orientation 6)",)


def test_only_the_first_picture_of_a_gif_is_read(tmp_path):
    frames = [Image.new("L", (3, 2), value) for value in (10, 200, 90)]
    data, notes = read(GREY, tmp_path, encoded(frames[0], "gif", save_all=True, append_images=frames[1:]))
    assert data.tolist() == [10] * 6
    assert "only the first of its images" in notes


def test_a_palette_becomes_its_colours(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([1, 2, 3, 200, 100, 50])
    image.putpixel((1, 0), 1)
    data, notes = read(RGB, tmp_path, encoded(image, "png"))
    assert (data.tolist(), notes) == ([[1, 2, 3], [200, 100, 50]], ())
    data, notes = read(GREY, tmp_path, encoded(image, "png"))
    assert (data.tolist(), notes) == ([2, 124], ("converted P to L",))


def test_bits_become_black_and_white(tmp_path):
    content = encoded(Image.fromarray(np.array([[True, False, True]])), "png")
    assert read(GREY, tmp_path, content)[0].tolist() == [255, 0, 255]
    assert read(RGB, tmp_path, content)[0].tolist() == [[255] * 3, [0] * 3, [255] * 3]
    assert read(GREY, tmp_path, content)[1] == read(RGB, tmp_path, content)[1] == ()


def test_grey_becomes_three_equal_channels_and_back(tmp_path):
    grey = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    data, notes = read(RGB, tmp_path, encoded(grey, "png"))
    assert (data.tolist(), notes) == ([[v] * 3 for v in range(256)], ())
    data, notes = read(GREY, tmp_path, encoded(grey.convert("RGB"), "png"))
    assert (data.tolist(), notes) == (list(range(256)), ("converted RGB to L",))


def test_colour_becomes_luma(tmp_path):
    image = Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8))
    assert read(GREY, tmp_path, encoded(image, "png"))[0].tolist() == [76, 150, 29]


def test_alpha_is_composited_over_white(tmp_path):
    image = Image.fromarray(np.array([[[9, 99, 199, 255], [9, 99, 199, 0], [0, 0, 0, 51]]], np.uint8))
    data, notes = read(RGB, tmp_path, encoded(image, "png"))
    assert data.tolist() == [[9, 99, 199], [255] * 3, [204] * 3]
    assert notes == ("alpha composited over white",)
    assert read(GREY, tmp_path, encoded(image, "png"))[1] == ("alpha composited over white", "converted RGBA to L")


def test_alpha_that_hides_nothing_costs_nothing(tmp_path):
    opaque = COLOURS.copy()
    opaque.putalpha(255)
    data, notes = read(RGB, tmp_path, encoded(opaque, "png"))
    assert notes == ()
    np.testing.assert_array_equal(data, PIXELS.reshape(-1, 3))


def test_grey_with_alpha(tmp_path):
    image = Image.fromarray(np.array([[[7, 255], [7, 0]]], np.uint8))
    assert image.mode == "LA"
    data, notes = read(GREY, tmp_path, encoded(image, "png"))
    assert (data.tolist(), notes) == ([7, 255], ("alpha composited over white",))


def test_the_transparent_colour_of_a_palette_becomes_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([1, 2, 3, 4, 5, 6])
    image.putpixel((1, 0), 1)
    data, notes = read(RGB, tmp_path, encoded(image, "png", transparency=1))
    assert (data.tolist(), notes) == ([[1, 2, 3], [255] * 3], ("alpha composited over white",))


@pytest.mark.parametrize("kind", ["jpeg", "tiff"])
def test_cmyk_is_converted_and_said(tmp_path, kind):
    content = encoded(Image.new("CMYK", (2, 1), (0, 255, 255, 0)), kind)
    data, notes = read(RGB, tmp_path, content)
    np.testing.assert_allclose(data, [[255, 0, 0]] * 2, atol=3)
    assert notes == ("converted CMYK to RGB",)


@pytest.mark.parametrize(
    "content",
    [
        *(deep_png(kind, channels) for kind, channels in ((0, 1), (2, 3), (4, 2), (6, 4))),
        deep_tiff(),
        *(encoded(Image.new(mode, (2, 2)), "tiff") for mode in ("I;16", "I", "F")),
        b"P5 1 1 65535\n" + bytes(2),
        b"P5 1 1 1000\n" + bytes(2),
        b"P6 1 1 65535\n" + bytes(6),
        b"P3 1 1 65535\n 1 2 60000",
        b"Pf 1 1\n-1.0\n" + bytes(4),
        encoded(Image.new("I;16", (8, 8)), "jpeg2000"),
    ],
)
@pytest.mark.parametrize("adapter", [RGB, GREY])
def test_samples_of_more_than_8_bits_are_refused_by_name(tmp_path, adapter, content):
    with pytest.raises(MediaError, match=r"a\.png: has (16|10|32) bits a sample"):
        read(adapter, tmp_path, content)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
def test_avif_files_of_more_than_8_bits_are_refused(tmp_path):
    content = encoded(COLOURS, "avif")
    assert len(read(RGB, tmp_path, content)[0]) == 480
    flags = content.index(b"av1C") + 6
    deep = content[:flags] + bytes([content[flags] | 0x40]) + content[flags + 1 :]
    with pytest.raises(MediaError, match="has 10 bits a sample"):
        read(RGB, tmp_path, deep.replace(b"\3\x08\x08\x08", b"\3\x0a\x0a\x0a"))


def test_few_bits_are_not_taken_for_many(tmp_path):
    assert read(GREY, tmp_path, b"P5 2 1 15\n\x0f\x01")[0].tolist() == [255, 17]
    assert read(GREY, tmp_path, encoded(COLOURS.quantize(4), "png", bits=2))[1] == ("converted P to L",)
    assert len(read(RGB, tmp_path, encoded(COLOURS, "jpeg2000"))[0]) == 480


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "bmp", "tiff", "gif", "ppm", "jpeg2000"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_files_cut_short_are_refused(tmp_path, kind, part):
    content = encoded(COLOURS, kind)
    with pytest.raises(MediaError, match="a.png: (cannot be decoded|is not an image)") as caught:
        read(RGB, tmp_path, content[: int(len(content) * part)])
    assert "\n" not in str(caught.value)


def test_a_png_without_its_end_is_refused(tmp_path):
    with pytest.raises(MediaError, match="is truncated"):
        read(RGB, tmp_path, encoded(COLOURS, "png")[:-12])


def test_a_damaged_png_is_refused(tmp_path):
    content = bytearray(encoded(COLOURS, "png"))
    content[len(content) // 2] ^= 1
    with pytest.raises(MediaError, match="cannot be decoded"):
        read(RGB, tmp_path, bytes(content))


@pytest.mark.parametrize("content", [b"", b"just text", bytes(1000)])
def test_what_is_no_image_is_refused(tmp_path, content):
    with pytest.raises(MediaError, match="is not an image in a supported format: PNG, JPEG, .*, AVIF$"):
        read(RGB, tmp_path, content)


@pytest.mark.parametrize("limit", [300, 200])  # Pillow warns above its limit and raises above twice of it
def test_decompression_bombs_are_refused(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(MediaError, match="is too large to be decoded safely"):
        read(RGB, tmp_path, encoded(COLOURS, "png"))


def test_colour_spaces_that_pillow_cannot_convert_are_refused(tmp_path, monkeypatch):
    def refuse(image, mode):
        raise ValueError(f"conversion from {image.mode} to {mode} not supported")

    monkeypatch.setattr(Image.Image, "convert", refuse)  # which spaces these are differs between Pillow's versions
    with pytest.raises(MediaError, match="cannot be decoded: conversion from LAB to RGB not supported$"):
        read(RGB, tmp_path, encoded(Image.new("LAB", (2, 2)), "tiff"))


def test_the_stream_is_what_a_viewer_shows(tmp_path):
    """Rotation, alpha and a palette at once."""
    exif = Image.Exif()
    exif[0x0112] = 8
    content = encoded(COLOURS.quantize(16), "png", exif=exif, transparency=3)
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
    assert read(RGB, tmp_path, content)[0].tobytes() == expected.tobytes()
