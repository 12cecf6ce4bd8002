"""Images as the bytes of their pixels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from data_adapters.base import Adapter, Bytes, ByteStream, Format, MediaError, check_int
from data_adapters.image.channels import add_green, subtract_green
from data_adapters.image.decoding import convert, decoding, open_image
from data_adapters.image.neighbourhood import before_in_scan, neighbourhood
from data_adapters.image.profiles import can_convert
from data_adapters.image.scan import Value, patch_scan, patch_unscan, raster_scan, raster_unscan
from data_adapters.io import write_atomically
from data_adapters.neighbourhood import Neighbourhood

Mode = Literal["L", "RGB"]
Fit = Literal["crop", "resize", "exact"]
Scan = Literal["patch", "raster"]
Transform = Literal["none", "subtract_green"]

_CHANNELS = {"L": 1, "RGB": 3}
_FILTER = Image.Resampling.LANCZOS


class ImageAdapter(Adapter):
    """Images of 8 bits a sample as their pixels, in the order of a scan. One image is one stream and one window.

    `data_adapters.image.decoding` documents the conversions made while reading. Written files are PNG.

    Args:
        mode: "L" for grey (one byte a pixel), "RGB" for colour (three).
        size: Width and height that every image is converted to; by default each image keeps its own.
        fit: "crop" scales an image to cover the size and crops both sides equally; "resize" stretches it; "exact"
            refuses images of any other size.
        scan: Order of the pixels: "patch" goes square by square, "raster" row by row.
        patch: Side of the squares, in pixels. It sets the model's patch size to patch * patch * channels bytes, with
            both scans, so that they can be compared. Images whose own size it does not divide have smaller squares at
            the right and lower edges; from the first of these on, the model's patches no longer match the squares.
        transform: "subtract_green" stores a pixel of mode RGB as green, red - green and blue - green, which a model
            learns sooner; exactly inverted. "none" keeps red, green and blue. Grey pixels are the same with both.
        convert_profile: Convert images with a colour profile to sRGB. By default their numbers are kept as they are.
        max_pixels: Pixels that an image file may have, since small files can decode to gigabytes. By default Pillow's
            limit, 89,478,485.
    """

    name = "image"
    suffixes: ClassVar[tuple[str, ...]] = (
        *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".tga"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".heic", ".heif"),
    )
    single_window = True

    def __init__(
        self,
        mode: Mode = "RGB",
        size: tuple[int, int] | None = None,
        fit: Fit = "crop",
        scan: Scan = "patch",
        patch: int = 4,
        transform: Transform = "none",
        convert_profile: bool = False,
        max_pixels: int | None = None,
    ) -> None:
        choices = ("mode", mode, Mode), ("fit", fit, Fit), ("scan", scan, Scan), ("transform", transform, Transform)
        for field, value, options in choices:
            if value not in get_args(options):
                raise ValueError(f"{field} must be one of {', '.join(get_args(options))}, not {value!r}")
        check_int(patch=patch, max_pixels=max_pixels)
        for field, count in (("patch", patch), ("max_pixels", max_pixels)):
            if count is not None and count < 1:
                raise ValueError(f"{field} must be at least 1, not {count}")
        if convert_profile not in (False, True):
            raise ValueError(f"convert_profile must be true or false, not {convert_profile!r}")
        if convert_profile and not can_convert():
            raise ValueError("convert_profile needs a Pillow that was built with Little CMS: pip install -U pillow")
        if size is not None:
            _check_size(size, patch if scan == "patch" else 1)
        self.mode, self.fit, self.scan, self.patch = mode, fit, scan, patch
        self.transform: Transform = transform if mode == "RGB" else "none"
        self.size = None if size is None else (size[0], size[1])
        self.convert_profile, self.max_pixels = bool(convert_profile), max_pixels

    def settings(self) -> dict[str, Any]:
        """All arguments, the size as a list; without those added later (transform, ...) that have their defaults.

        So caches and checkpoints of before still match.
        """
        size = None if self.size is None else list(self.size)
        settings = {"mode": self.mode, "size": size, "fit": self.fit, "scan": self.scan, "patch": self.patch}
        later = {"convert_profile": self.convert_profile, "max_pixels": self.max_pixels}
        return {**settings, **self._stored_transform, **{name: value for name, value in later.items() if value}}

    def read(self, path: str | os.PathLike[str]) -> ByteStream:
        """Return the image's pixels, (H * W * C,) uint8 in the order of the scan.

        Raises MediaError for a file that is not an image, is damaged, has more than 8 bits a sample or more pixels than
        max_pixels, or has another size than fit "exact" requires.
        """
        image, notes = open_image(path, self.max_pixels)
        with decoding(path, self.max_pixels):
            image, converted = convert(image, self.mode, self.convert_profile)
        if self.size is not None and image.size != self.size:
            if self.fit == "exact":
                raise MediaError(
                    path, f"is {_size_text(image.size)}, not {_size_text(self.size)} as fit 'exact' requires"
                )
            image, note = _fit(image, self.size, self.fit)
            converted.append(note)
        pixels = np.asarray(image).reshape(image.height, image.width, -1)
        return ByteStream(self.pixel_bytes(pixels), self._format(image.width, image.height), (*notes, *converted))

    def write(self, stream: ByteStream, path: str | os.PathLike[str]) -> None:
        """Write a PNG. Pixels missing from a prefix are black, and so is a pixel that it contains only in part."""
        pixels = self.pixels(stream)
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        write_atomically(path, lambda temporary: image.save(temporary, "PNG"))

    def pixels(self, stream: ByteStream, fill: int = 0) -> Bytes:
        """Return the stream as (H, W, C) uint8, with `fill` for pixels that a prefix does not contain whole.

        Raises ValueError where the stream is longer than its format allows.
        """
        self.check_modality(stream)
        height, width, channels = int(stream.format["height"]), int(stream.format["width"]), _channels(stream)
        if len(stream.data) > height * width * channels:
            raise ValueError(
                f"{len(stream.data)} bytes are too many for an image of {width}x{height} {stream.format['mode']} pixels"
            )
        filler = np.full((1, 1, channels), fill, np.uint8)
        transformed = stream.format.get("transform") == "subtract_green"
        data = np.tile((subtract_green(filler) if transformed else filler).reshape(-1), height * width)
        known = len(stream.data) - len(stream.data) % channels
        data[:known] = stream.data[:known]
        pixels = self.unscan(data, stream.format)
        return add_green(pixels) if transformed else pixels

    def pixel_bytes(self, pixels_HWC: Bytes) -> Bytes:
        """Return the stream of an image in this adapter's transform and scan: (H, W, C) uint8 -> (n,) uint8."""
        return self.scan_pixels(subtract_green(pixels_HWC) if self.transform == "subtract_green" else pixels_HWC)

    def scan_pixels(self, pixels_HWC: Bytes) -> Bytes:
        """Return values of pixels in the order of this adapter's scan: (H, W, C) -> (n,). Inverse: `unscan`."""
        return patch_scan(pixels_HWC, self.patch) if self.scan == "patch" else raster_scan(pixels_HWC)

    def unscan(self, values: NDArray[Value], format: Format) -> NDArray[Value]:
        """Arrange a value for each byte of a whole stream (or the bytes themselves) as pixels: (n,) -> (H, W, C).

        Raises ValueError unless n = H * W * C.
        """
        height, width, channels = int(format["height"]), int(format["width"]), _CHANNELS[str(format["mode"])]
        if format["scan"] == "raster":
            return raster_unscan(values, height, width, channels)
        return patch_unscan(values, height, width, channels, int(format["patch"]))

    @property
    def output_suffix(self) -> str:
        """Always ".png"."""
        return ".png"

    def default_format(self) -> Format:
        """An image of the `size` setting. Raises ValueError where it is None."""
        if self.size is None:
            raise ValueError("an image without a prefix needs a size, and the image adapter has none set")
        return self._format(*self.size)

    @property
    def unit(self) -> int:
        """A pixel."""
        return _CHANNELS[self.mode]

    @property
    def length(self) -> int | None:
        """Bytes of an image, where the size is set."""
        return None if self.size is None else self.size[0] * self.size[1] * self.unit

    def length_in(self, format: Format) -> int:
        """Bytes of an image of the format's size and mode."""
        return int(format["width"]) * int(format["height"]) * _CHANNELS[str(format["mode"])]

    @property
    def patch_size(self) -> int:
        """Bytes of a square of `patch` x `patch` pixels."""
        return self.patch * self.patch * self.unit

    def _format(self, width: int, height: int) -> Format:
        format: Format = {"modality": self.name, "mode": self.mode, "width": width, "height": height}
        return {**format, "scan": self.scan, "patch": self.patch, **self._stored_transform}

    @property
    def _stored_transform(self) -> dict[str, str]:
        """The transform in settings and formats: left out if there is none, as before there was a choice."""
        return {} if self.transform == "none" else {"transform": self.transform}

    @property
    def neighbourhood(self) -> Neighbourhood:
        """The pixels around, in images of one size; in images of any size those before in the scan."""
        if self.size is None:
            return before_in_scan(self.unit)
        return neighbourhood(self.size[0], self.patch if self.scan == "patch" else 1, self.unit)


def _channels(stream: ByteStream) -> int:
    return _CHANNELS[str(stream.format["mode"])]


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _check_size(size: Sequence[int], divisor: int) -> None:
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size must be a width and a height of at least 1, not {size}")
    check_int(width=size[0], height=size[1])
    if size[0] % divisor or size[1] % divisor:
        raise ValueError(
            f"size {size[0]}x{size[1]} cannot be cut into squares of patch {divisor}: patch must divide both sides"
        )


def _fit(image: Image.Image, size: tuple[int, int], fit: Fit) -> tuple[Image.Image, str]:
    """Crop or resize the image to `size`. Returns it with the note for the user."""
    scales = [target / source for target, source in zip(size, image.size, strict=True)]
    if fit == "resize" or scales[0] == scales[1]:
        return image.resize(size, _FILTER), f"resized from {_size_text(image.size)} to {_size_text(size)}"
    action = "cropped" if max(scales) == 1 else "resized and cropped"
    return ImageOps.fit(image, size, _FILTER), f"{action} from {_size_text(image.size)} to {_size_text(size)}"
