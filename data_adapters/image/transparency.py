"""Transparency that Pillow reads otherwise than the file's format means it."""

from __future__ import annotations

from PIL import Image

from data_adapters.image.depth import png_bits

_WITHOUT_ALPHA = {"RGBA": "RGB", "LA": "L"}


def correct_transparency(image: Image.Image, content: bytes) -> Image.Image:
    """Return the image with the alpha channel and the transparent grey of its file. image: loaded from `content`."""
    if image.format in ("BMP", "TGA"):
        return _drop_empty_alpha(image)
    if image.format == "PNG" and image.mode == "L" and isinstance(image.info.get("transparency"), int):
        # Pillow scales pixels of 2 and 4 bits to 0..255, and leaves the transparent one as it is in the file.
        largest = 2 ** min(png_bits(content), 8) - 1
        image.info["transparency"] = (image.info["transparency"] & largest) * (255 // largest)
    return image


def _drop_empty_alpha(image: Image.Image) -> Image.Image:
    """Drop an alpha channel of zeros: many programs leave the fourth byte of a pixel unused, in both formats."""
    if image.mode not in _WITHOUT_ALPHA or image.getchannel("A").getextrema() != (0, 0):
        return image
    return image.convert(_WITHOUT_ALPHA[image.mode])
