"""HEIC and AVIF, with and without what reads them."""

import io
import struct
import sys
from types import ModuleType

import numpy as np
import pytest
from PIL import Image, ImageFile

from data_adapters import ImageAdapter, MediaError, adapter_for
from data_adapters.image import heif


def box(main, *compatible):
    body = main + bytes(4) + b"".join(compatible)
    return struct.pack(">I", 8 + len(body)) + b"ftyp" + body


HEIC, AVIF = box(b"heic", b"mif1", b"heic"), box(b"avif", b"mif1", b"avif")


def read(tmp_path, content):
    (tmp_path / "a.heic").write_bytes(content)
    return ImageAdapter(scan="raster").read(tmp_path / "a.heic")


@pytest.fixture
def without_reader(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)


@pytest.mark.parametrize("suffix", [".avif", ".heic", ".heif", ".HEIC"])
def test_their_suffixes_are_those_of_pictures(suffix):
    assert adapter_for(f"a{suffix}").name == "image"


@pytest.mark.parametrize(
    ("content", "expected"),
    [(HEIC, True), (box(b"mif1", b"heic"), True), (box(b"mif1"), True), (AVIF, False), (box(b"mif1", b"avif"), False)],
)
def test_the_brands_say_which_of_the_two_a_file_is(content, expected):
    assert heif.is_heic(content) is expected


@pytest.mark.usefixtures("without_reader")
def test_heic_without_its_reader_names_the_extra(tmp_path):
    with pytest.raises(
        MediaError, match=r"a\.heic: is a HEIC picture; to read it, run: pip install 'megabyte-mm\[heif\]'$"
    ):
        read(tmp_path, HEIC)


def test_avif_without_its_reader_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.features.check", lambda feature: False)
    with pytest.raises(
        MediaError, match="is an AVIF picture, which the installed Pillow cannot read; run: pip install"
    ):
        read(tmp_path, AVIF)


class StandIn(ImageFile.ImageFile):
    """A picture of one colour, of as many bits as its last byte says, turned as the byte before says."""

    format, format_description = "HEIF", "stand-in"

    def _open(self):
        assert self.fp is not None
        content = self.fp.read()
        self._size, self._mode = (2, 1), "RGB"
        self.info = {"bit_depth": content[-1], "original_orientation": content[-2] or None}
        self.tile = [ImageFile._Tile("raw", (0, 0, 2, 1), len(content) - 8, "RGB")]


@pytest.fixture
def stand_in(monkeypatch):
    module = ModuleType("pillow_heif")
    vars(module)["register_heif_opener"] = lambda: Image.register_open("HEIF", StandIn)
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    monkeypatch.setattr(Image, "OPEN", {kind: entry for kind, entry in Image.OPEN.items() if kind != "HEIF"})
    monkeypatch.setattr(Image, "ID", list(Image.ID))


@pytest.mark.usefixtures("stand_in")
def test_heic_is_read_by_the_extra(tmp_path):
    stream = read(tmp_path, HEIC + bytes([1, 2, 3, 4, 5, 6]) + bytes([0, 8]))
    assert (stream.data.tolist(), stream.notes) == ([1, 2, 3, 4, 5, 6], ())


@pytest.mark.usefixtures("stand_in")
def test_heic_that_the_reader_has_turned_is_noted(tmp_path):
    assert read(tmp_path, HEIC + b"irot" + bytes(6) + bytes([6, 8])).notes == ("turned upright (EXIF orientation 6)",)
    assert read(tmp_path, HEIC + bytes(6) + bytes([6, 8])).notes == ()  # EXIF alone turns nothing


@pytest.mark.usefixtures("stand_in")
def test_heic_of_more_than_8_bits_is_refused(tmp_path):
    with pytest.raises(MediaError, match="has 10 bits a sample"):
        read(tmp_path, HEIC + bytes(6) + bytes([0, 10]))


def test_real_heic_is_read_or_refused_in_one_line(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    pillow_heif.register_heif_opener()
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :, 0], pixels[16:, :, 2] = 200, 180
    exif = Image.Exif()
    exif[0x0112] = 6
    file, image = io.BytesIO(), Image.fromarray(pixels)
    image.info["exif"] = exif.tobytes()
    image.save(file, "HEIF", quality=100, chroma=444)
    stream = read(tmp_path, file.getvalue())
    assert (stream.format["width"], stream.format["height"]) == (32, 48)
    assert stream.notes == ("turned upright (EXIF orientation 6)",)
    np.testing.assert_allclose(stream.data.reshape(48, 32, 3).astype(int), np.rot90(pixels, -1), atol=8)
    for share in (0.1, 0.5, 0.95):
        with pytest.raises(MediaError, match=r"^[^\n]*a\.heic: (cannot be decoded|is not an image)[^\n]*$"):
            read(tmp_path, file.getvalue()[: int(len(file.getvalue()) * share)])
