"""Image files of every format: conversions, and refusals."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from data_adapters import ImageAdapter, MediaError
from data_adapters.image.messages import plain_reason
from fuzz import forged

RGB, GREY = ImageAdapter("RGB", scan="raster"), ImageAdapter("L", scan="raster")
PIXELS = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
COLOURS = Image.fromarray(PIXELS)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


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


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff", "webp"])
def test_turning_is_noted(tmp_path, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read(RGB, tmp_path, encoded(COLOURS, kind, exif=exif))[1] == ("turned upright (EXIF orientation 6)",)


def test_only_the_first_image_of_a_gif_is_read(tmp_path):
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
    assert (data.tolist(), notes) == ([2, 124], ("converted palette to L",))


def test_one_bit_pixels_become_black_and_white(tmp_path):
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


def test_opaque_alpha_is_dropped_without_a_note(tmp_path):
    opaque = COLOURS.copy()
    opaque.putalpha(255)
    data, notes = read(RGB, tmp_path, encoded(opaque, "png"))
    assert notes == ()
    np.testing.assert_array_equal(data, PIXELS.reshape(-1, 3))


@pytest.mark.parametrize("kind", ["tga", "bmp"])
def test_an_unused_alpha_channel_of_tga_and_bmp_is_ignored(tmp_path, kind):
    unused, used = COLOURS.convert("RGBA"), COLOURS.convert("RGBA")
    unused.putalpha(0)
    used.putalpha(0)
    used.putpixel((3, 2), (1, 2, 3, 255))
    data, notes = read(RGB, tmp_path, _with_alpha_mask(encoded(unused, kind), kind))
    assert notes == ()
    np.testing.assert_array_equal(data, PIXELS.reshape(-1, 3))
    data, notes = read(RGB, tmp_path, _with_alpha_mask(encoded(used, kind), kind))
    assert notes == ("alpha composited over white",)
    assert (data == 255).all(axis=1).sum() >= len(data) - 1


def _with_alpha_mask(content, kind):
    """A BMP of version 4, whose header names the byte of alpha: Pillow writes version 3, without it."""
    if kind == "tga":
        return content
    header, pixels = content[14:54], content[54:]
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52)
    header = struct.pack("<I", 108) + header[4:16] + struct.pack("<I", 3) + header[20:] + masks
    return struct.pack("<2sIII", b"BM", 122 + len(pixels), 0, 122) + header + pixels


def test_alpha_of_zeros_is_transparent_in_other_formats(tmp_path):
    clear = COLOURS.copy()
    clear.putalpha(0)
    assert (read(RGB, tmp_path, encoded(clear, "png"))[0] == 255).all()


@pytest.mark.parametrize(("depth", "row"), [(1, 0b01000000), (2, 0b01100000), (4, 0x12), (8, 0)])
@pytest.mark.parametrize("adapter", [GREY, RGB])
def test_the_transparent_grey_of_a_png_becomes_white_at_every_depth(tmp_path, adapter, depth, row):
    pixels = bytes([0, row, 2])[: 2 + (depth == 8)]
    transparent = {1: 0, 2: 1, 4: 1, 8: 0}[depth]
    content = forged.png(*(2, 1, (b"tRNS", struct.pack(">H", transparent))), colour_type=0, depth=depth, pixels=pixels)
    data, notes = read(adapter, tmp_path, content)
    assert data.reshape(2, -1)[:, 0].tolist() == [255, {1: 255, 2: 170, 4: 34, 8: 2}[depth]]
    assert notes == ("alpha composited over white",)


def test_grey_with_alpha_is_composited(tmp_path):
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
def test_cmyk_is_converted_with_a_note(tmp_path, kind):
    content = encoded(Image.new("CMYK", (2, 1), (0, 255, 255, 0)), kind)
    data, notes = read(RGB, tmp_path, content)
    np.testing.assert_allclose(data, [[255, 0, 0]] * 2, atol=3)
    assert notes == ("converted CMYK to RGB",)


@pytest.mark.parametrize(
    "content",
    [
        *(forged.png(2, 1, depth=16, colour_type=kind, pixels=bytes(99)) for kind in (0, 2, 4, 6)),
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
def test_samples_of_more_than_8_bits_are_refused(tmp_path, content):
    with pytest.raises(MediaError, match=r"a\.png: has (16|10|32) bits a sample"):
        read(RGB, tmp_path, content)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
def test_avif_files_of_more_than_8_bits_are_refused(tmp_path):
    content = encoded(COLOURS, "avif")
    assert len(read(RGB, tmp_path, content)[0]) == 480
    flags = content.index(b"av1C") + 6
    deep = content[:flags] + bytes([content[flags] | 0x40]) + content[flags + 1 :]
    with pytest.raises(MediaError, match="has 10 bits a sample"):
        read(RGB, tmp_path, deep.replace(b"\3\x08\x08\x08", b"\3\x0a\x0a\x0a"))


def test_samples_of_few_bits_are_read(tmp_path):
    assert read(GREY, tmp_path, b"P5 2 1 15\n\x0f\x01")[0].tolist() == [255, 17]
    assert read(GREY, tmp_path, encoded(COLOURS.quantize(4), "png", bits=2))[1] == ("converted palette to L",)
    assert len(read(RGB, tmp_path, encoded(COLOURS, "jpeg2000"))[0]) == 480


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "bmp", "tiff", "gif", "ppm", "jpeg2000"])
def test_truncated_files_are_refused_in_one_line(tmp_path, kind):
    content = encoded(COLOURS, kind)
    for share in (0.02, 0.5, 0.9):
        with pytest.raises(MediaError, match="^[^\n]*a.png: (cannot be decoded|is not an image)[^\n]*$"):
            read(RGB, tmp_path, content[: int(len(content) * share)])


@pytest.mark.parametrize("limit", [300, 200])  # Pillow warns above its limit and raises above twice of it
def test_decompression_bombs_are_refused(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(MediaError, match="is too large to be decoded safely"):
        read(RGB, tmp_path, encoded(COLOURS, "png"))


def test_the_limit_is_stated_and_can_be_raised(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    reason = "a.png: is too large to be decoded safely: it has 480 pixels, and the limit is 200; "
    with pytest.raises(MediaError, match=reason + "make it smaller, or raise the image adapter's max_pixels$"):
        read(RGB, tmp_path, encoded(COLOURS, "png"))
    assert len(read(ImageAdapter(max_pixels=480), tmp_path, encoded(COLOURS, "png"))[0]) == 480
    with pytest.raises(MediaError, match="it has 480 pixels, and the limit is 479"):
        read(ImageAdapter(max_pixels=479), tmp_path, encoded(COLOURS, "png"))
    assert Image.MAX_IMAGE_PIXELS == 200  # that of the user's program


def test_colour_spaces_that_pillow_cannot_convert_are_refused(tmp_path, monkeypatch):
    def refuse(image, mode):
        raise ValueError(f"conversion from {image.mode} to {mode} not supported")

    monkeypatch.setattr(Image.Image, "convert", refuse)  # the set of such spaces depends on the version of Pillow
    with pytest.raises(MediaError, match="cannot be decoded: conversion from LAB to RGB not supported$"):
        read(RGB, tmp_path, encoded(Image.new("LAB", (2, 2)), "tiff"))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("image file is truncated (12 bytes not processed)"), "its end is missing"),
        (ValueError("Reached EOF while reading header"), "its end is missing"),
        (OSError("-2 decoder error when reading image file"), "its contents are damaged"),
        (ValueError("b'Token too long in file header: 12\\x00'"), "its contents are damaged"),
        (SyntaxError("broken PNG file (chunk b'abcd')"), "its contents are damaged"),
        (TypeError("'NoneType' object is not subscriptable"), "its contents are damaged"),
        (IndexError(), "its contents are damaged"),
        (ValueError("Decoder plugin generated an error: Unspecified: ..."), "its contents are damaged"),
        (RuntimeError("Memory allocation error: Security limit exceeded: Image size ..."), "its contents are damaged"),
        (
            ValueError("Decompressed data too large for PngImagePlugin.MAX_TEXT_CHUNK"),
            "a text or profile in it unpacks",
        ),
        (OSError("Unsupported BMP compression (7)"), "Unsupported BMP compression (7)"),
    ],
)
def test_messages_of_pillow_are_put_in_plain_words(error, reason):
    assert plain_reason(error).startswith(reason)


def test_the_pixels_are_those_that_a_viewer_shows(tmp_path):
    """Rotation, alpha and a palette at once."""
    exif = Image.Exif()
    exif[0x0112] = 8
    content = encoded(COLOURS.quantize(16), "png", exif=exif, transparency=3)
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
    assert read(RGB, tmp_path, content)[0].tobytes() == expected.tobytes()
