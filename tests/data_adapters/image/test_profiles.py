"""Colour profiles: noted, or applied."""

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from data_adapters import ImageAdapter, registry

pytestmark = pytest.mark.skipif(not features.check("littlecms2"), reason="this Pillow was built without Little CMS")

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
IGNORED, CONVERTED = (
    "its colour profile 'sRGB built-in' is ignored",
    "converted from the colour profile 'sRGB built-in' to sRGB",
)


def swapped():
    """A profile in which red and green have each other's meaning, and sRGB's name."""
    return SRGB.replace(b"rXYZ", b"----", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"----", b"gXYZ", 1)


def grey(curve=b"rTRC"):
    """A profile of grey: the curve of sRGB, or with another tag's data an unknown one."""
    return SRGB.replace(b"RGB XYZ ", b"GRAYXYZ ", 1).replace(curve, b"kTRC", 1)


def linear_grey():
    """A profile of grey without a curve: "curv" of no entries in place of sRGB's."""
    at = SRGB.index(b"para")
    return grey()[:at] + b"curv".ljust(32, b"\0") + grey()[at + 32 :]


def all_ink_is_black():
    """A profile of CMYK: without ink white, with any ink black. A table of 2 x 2 x 2 x 2 colours in Lab."""
    corners = bytes([255, 128, 128]) + bytes([0, 128, 128]) * 15
    scale = struct.pack(">9i", *(0x10000 * (i % 4 == 0) for i in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + scale + bytes(range(256)) * 4 + corners + bytes(range(256)) * 3
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    start = 128 + 4 + 2 * 12
    tags = struct.pack(">I", 2) + b"A2B0" + struct.pack(">II", start, len(table))
    tags += b"wtpt" + struct.pack(">II", start + len(table), len(white))
    header = SRGB[8:12] + b"prtrCMYKLab " + SRGB[24:128]
    return struct.pack(">I4x", start + len(table) + len(white)) + header + tags + table + white


def read(tmp_path, image, icc, suffix=".png", **settings):
    image.save(tmp_path / f"a{suffix}", icc_profile=icc)
    stream = ImageAdapter(scan="raster", **settings).read(tmp_path / f"a{suffix}")
    return stream.data.tolist(), stream.notes


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp", ".jpg"])
def test_a_profile_that_is_not_srgb_is_noted_whatever_its_name(tmp_path, suffix):
    image = Image.new("RGB", (8, 8), (220, 30, 30))
    data, notes = read(tmp_path, image, swapped(), suffix)
    np.testing.assert_allclose(data[:3], (220, 30, 30), atol=6)
    assert notes == (IGNORED,)
    data, notes = read(tmp_path, image, swapped(), suffix, convert_profile=True)
    np.testing.assert_allclose(data[:3], (30, 220, 30), atol=6)
    assert notes == (CONVERTED,)


@pytest.mark.parametrize("convert", [False, True])
@pytest.mark.parametrize(("mode", "icc"), [("RGB", SRGB), ("RGBA", SRGB), ("L", SRGB), ("L", grey())])
def test_the_profile_of_srgb_changes_nothing(tmp_path, mode, icc, convert):
    image = Image.new(mode, (1, 1), (9, 99, 199, 255)[: len(mode)] if mode != "L" else 9)
    data, notes = read(tmp_path, image, icc, convert_profile=convert)
    assert (data, notes) == ([9, 99, 199] if mode != "L" else [9] * 3, ())


def test_transparency_outlives_the_conversion(tmp_path):
    image = Image.fromarray(np.array([[[220, 30, 30, 255], [220, 30, 30, 0]]], np.uint8))
    data, notes = read(tmp_path, image, swapped(), convert_profile=True)
    np.testing.assert_allclose(data, [30, 220, 30, 255, 255, 255], atol=3)
    assert notes == (CONVERTED, "alpha composited over white")


@pytest.mark.parametrize(("mode", "expected"), [("RGB", [188] * 3), ("L", [188])])
def test_grey_is_converted(tmp_path, mode, expected):
    data, notes = read(tmp_path, Image.new("L", (1, 1), 128), linear_grey(), mode=mode, convert_profile=True)
    np.testing.assert_allclose(data, expected, atol=1)
    assert notes == (CONVERTED,)
    assert read(tmp_path, Image.new("L", (1, 1), 128), linear_grey(), mode=mode)[1] == (IGNORED,)


def test_cmyk_is_converted_by_its_profile_instead_of_pillows_rule(tmp_path):
    image = Image.new("CMYK", (1, 1), (255, 0, 0, 0))
    data, notes = read(tmp_path, image, all_ink_is_black(), ".tiff")
    assert data == [0, 255, 255]
    assert notes == ("its colour profile without a name is ignored", "converted CMYK to RGB")
    data, notes = read(tmp_path, image, all_ink_is_black(), ".tiff", convert_profile=True)
    np.testing.assert_allclose(data, [0, 0, 0], atol=2)
    assert notes == ("converted from the colour profile without a name to sRGB",)


def test_a_palette_is_converted(tmp_path):
    image = Image.new("P", (1, 1))
    image.putpalette([220, 30, 30])
    np.testing.assert_allclose(read(tmp_path, image, swapped(), convert_profile=True)[0], [30, 220, 30], atol=3)


def test_a_profile_of_another_colour_space_than_the_pixels_is_ignored(tmp_path):
    wrong = grey(b"bXYZ")
    data, notes = read(tmp_path, Image.new("RGB", (1, 1), (1, 2, 3)), wrong, convert_profile=True)
    assert data == [1, 2, 3]
    assert len(notes) == 1
    assert notes[0].endswith("is ignored")


@pytest.mark.parametrize("icc", [bytes(200), SRGB[:150], b"x"])
def test_a_damaged_profile_is_ignored_with_a_note(tmp_path, icc):
    data, notes = read(tmp_path, Image.new("RGB", (1, 1), (1, 2, 3)), icc, convert_profile=True)
    assert (data, notes) == ([1, 2, 3], ("its damaged colour profile is ignored",))


def test_a_profile_is_noted_without_little_cms_too_and_cannot_be_converted(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.features.check", lambda feature: False)
    assert read(tmp_path, Image.new("RGB", (1, 1)), SRGB)[1] == ("its colour profile is ignored",)
    with pytest.raises(ValueError, match="convert_profile needs a Pillow that was built with Little CMS"):
        ImageAdapter(convert_profile=True)


def test_the_settings_keep_the_defaults_of_before_unwritten():
    """So that the keys of caches, and the comparison with checkpoints, stay as they were."""
    assert set(ImageAdapter().settings()) == {"mode", "size", "fit", "scan", "patch"}
    adapter = ImageAdapter(convert_profile=True, max_pixels=10**9)
    again = registry.build("image", adapter.settings())
    assert isinstance(again, ImageAdapter)
    assert (again.convert_profile, again.max_pixels) == (True, 10**9)
