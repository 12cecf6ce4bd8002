import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_adapters import ByteStream, ImageAdapter, MediaError

MODES = {"L": 1, "RGB": 3}


def noise(width, height, mode="RGB", seed=0):
    """Random pixels in any of Pillow's 8-bit modes, or in 1 bit; a palette is random too, alpha in half of them 255."""
    rng = np.random.default_rng(seed)
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    if mode == "1":
        return Image.fromarray(pixels[..., 0] > 127)
    if mode in ("LA", "RGBA") and seed % 2:
        pixels[..., -1] = 255
    image = Image.frombytes(mode, (width, height), pixels.tobytes())
    if mode == "P":
        image.putpalette(rng.bytes(768))
    return image


LOSSLESS = {"L": ("1", "L"), "RGB": ("1", "L", "P", "RGB")}
"""Modes of files whose conversion to the adapter's mode is lossless."""


@settings(deadline=None, max_examples=100)
@given(
    st.integers(1, 17),
    st.integers(1, 17),
    st.sampled_from(["L", "RGB"]),
    st.sampled_from(["L", "RGB", "P", "1", "LA", "RGBA", "CMYK"]),
    st.sampled_from(["patch", "raster"]),
    st.integers(1, 5),
    st.sampled_from(["none", "subtract_green"]),
    st.integers(0, 2**32 - 1),
)
def test_images_of_any_size_and_mode_round_trip(folder, width, height, mode, file_mode, scan, patch, transform, seed):
    image = noise(width, height, file_mode, seed)
    name = "in.tif" if file_mode == "CMYK" else "in.png"
    image.save(folder / name)
    adapter = ImageAdapter(mode, scan=scan, patch=patch, transform=transform)
    stream = adapter.read(folder / name)
    assert len(stream.data) == width * height * MODES[mode]
    adapter.write(stream, folder / "out.png")
    if file_mode in LOSSLESS[mode]:
        assert stream.notes == ()
        with Image.open(folder / "out.png") as written:
            assert (written.mode, written.size) == (mode, (width, height))
            assert written.tobytes() == image.convert(mode).tobytes()
    second = adapter.read(folder / "out.png")
    assert (second.format, second.notes) == (stream.format, ())
    np.testing.assert_array_equal(second.data, stream.data)


def test_the_bytes_are_in_the_order_of_the_scan(tmp_path):
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    data = ImageAdapter("L", patch=2).read(tmp_path / "a.png").data
    assert data.tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
    assert ImageAdapter("L", scan="raster").read(tmp_path / "a.png").data.tolist() == list(range(16))


@pytest.mark.parametrize(
    "suffix", [".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".tga", ".gif", ".jpg", ".jfif", ".jp2"]
)
def test_pixels_are_those_that_pillow_decodes(tmp_path, suffix):
    noise(7, 5).save(tmp_path / f"a{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    with Image.open(tmp_path / f"a{suffix}") as image:
        expected = np.asarray(image.convert("RGB"))
    stream = ImageAdapter(scan="raster").read(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(stream.data, expected.reshape(-1))


def test_a_stream_is_written_in_its_own_format(tmp_path):
    noise(6, 4, "L").save(tmp_path / "a.png")
    stream = ImageAdapter("L", patch=3).read(tmp_path / "a.png")
    assert stream.format == {"modality": "image", "mode": "L", "width": 6, "height": 4, "scan": "patch", "patch": 3}
    ImageAdapter("RGB", (8, 8), scan="raster").write(stream, tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as image:
        assert image.tobytes() == noise(6, 4, "L").tobytes()


def test_green_is_subtracted_from_red_and_blue(tmp_path):
    Image.fromarray(np.array([[[200, 100, 0], [7, 7, 7]]], np.uint8)).save(tmp_path / "a.png")
    stream = ImageAdapter(transform="subtract_green", patch=1).read(tmp_path / "a.png")
    assert stream.data.tolist() == [100, 228, 28, 7, 128, 128]
    assert stream.format["transform"] == "subtract_green"
    ImageAdapter().write(stream, tmp_path / "b.png")  # in the stream's own format
    with Image.open(tmp_path / "b.png") as image:
        assert image.tobytes() == bytes([200, 100, 0, 7, 7, 7])


@pytest.mark.parametrize(("scan", "transform"), [("patch", "none"), ("raster", "none"), ("patch", "subtract_green")])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 20, 35, 36])
def test_pixels_after_a_prefix_are_black_or_filled(tmp_path, length, scan, transform):
    noise(4, 3).save(tmp_path / "a.png")
    adapter = ImageAdapter(scan=scan, patch=2, transform=transform)
    whole = adapter.read(tmp_path / "a.png")
    prefix = ByteStream(whole.data[:length], whole.format)
    known = adapter.unscan(np.repeat(np.arange(12) < length // 3, 3), whole.format)
    expected = np.where(known, adapter.pixels(whole), 128)
    np.testing.assert_array_equal(adapter.pixels(prefix, fill=128), expected)
    adapter.write(prefix, tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as image:
        np.testing.assert_array_equal(np.asarray(image), adapter.pixels(prefix))


def test_a_stream_that_is_too_long_is_refused(tmp_path):
    adapter = ImageAdapter("L", (2, 2), patch=2)
    with pytest.raises(ValueError, match="5 bytes are too many for an image of 2x2 L pixels"):
        adapter.write(ByteStream(np.zeros(5, np.uint8), adapter.default_format()), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("source", "target", "fit", "note"),
    [
        ((64, 48), (16, 16), "crop", "resized and cropped from 64x48 to 16x16"),
        ((32, 24), (16, 12), "crop", "resized from 32x24 to 16x12"),
        ((40, 16), (16, 16), "crop", "cropped from 40x16 to 16x16"),
        ((64, 48), (16, 16), "resize", "resized from 64x48 to 16x16"),
        ((1, 1), (8, 4), "crop", "resized and cropped from 1x1 to 8x4"),
    ],
)
def test_images_are_resized_with_a_note(tmp_path, source, target, fit, note):
    noise(*source).save(tmp_path / "a.png")
    stream = ImageAdapter(size=target, fit=fit).read(tmp_path / "a.png")
    assert len(stream.data) == target[0] * target[1] * 3
    assert stream.notes == (note,)


def test_a_crop_is_the_unchanged_middle(tmp_path):
    noise(40, 16).save(tmp_path / "a.png")
    stream = ImageAdapter(size=(16, 16), scan="raster").read(tmp_path / "a.png")
    np.testing.assert_array_equal(stream.data, np.asarray(noise(40, 16))[:, 12:28].reshape(-1))


def test_fit_exact_names_the_file_and_both_sizes(tmp_path):
    noise(8, 4).save(tmp_path / "a.png")
    assert ImageAdapter(size=(8, 4), fit="exact").read(tmp_path / "a.png").notes == ()
    with pytest.raises(MediaError, match=r"a\.png: is 8x4, not 4x8 as fit 'exact' requires"):
        ImageAdapter(size=(4, 8), fit="exact").read(tmp_path / "a.png")


@pytest.mark.parametrize("scan", ["patch", "raster"])
def test_unit_length_and_patch_size_follow_from_the_settings(scan):
    adapter = ImageAdapter("RGB", (8, 12), scan=scan, patch=4)
    assert (adapter.unit, adapter.length, adapter.patch_size) == (3, 288, 48)
    assert adapter.default_format()["width"] == 8
    assert adapter.last_boundary(np.zeros(288, np.uint8), 100) == 99
    native = ImageAdapter("L", scan=scan, transform="subtract_green")
    assert native.settings() == ImageAdapter("L", scan=scan).settings()
    assert (native.unit, native.length, native.patch_size) == (1, None, 16)
    with pytest.raises(ValueError, match="needs a size"):
        native.default_format()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "RGBA"}, "mode must be one of L, RGB, not 'RGBA'"),
        ({"fit": "pad"}, "fit must be one of crop, resize, exact"),
        ({"scan": "hilbert"}, "scan must be one of patch, raster"),
        ({"transform": "ycocg"}, "transform must be one of none, subtract_green, not 'ycocg'"),
        ({"patch": 0}, "patch must be at least 1"),
        ({"size": (0, 4)}, "size must be a width and a height of at least 1"),
        ({"size": (4, 4, 3)}, "size must be a width and a height"),
        ({"size": (10, 8)}, "size 10x8 cannot be cut into squares of patch 4"),
    ],
)
def test_invalid_settings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageAdapter(**arguments)


def test_a_raster_scan_accepts_sizes_that_the_patch_does_not_divide():
    assert ImageAdapter(size=(10, 7), scan="raster").length == 210
