"""Colour profiles (ICC) in picture files: notes about them, and conversion to sRGB."""

from __future__ import annotations

import io
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms, features

from data_adapters.base import printable

_SRGB_TOLERANCE = 4
"""Largest difference, of 255, between a colour and its conversion to sRGB, for a profile that counts as sRGB: versions
of it differ in their rounding."""
_LEVELS = (0, 16, 64, 128, 192, 255)
_MAX_NAME = 40

_MODES = {
    "RGB": ("RGB", ("RGB", "RGBA", "P", "PA", "L", "LA", "1")),
    "GRAY": ("L", ("L", "LA", "1")),
    "CMYK": ("CMYK", ("CMYK",)),
}
"""Colour space of a profile -> Pillow's mode of its colours, and the modes of pictures that it can apply to."""
_ERRORS = (ImageCms.PyCMSError, OSError, ValueError, TypeError)


class _Profile(NamedTuple):
    """name: the quoted description in the profile. space: "RGB", "GRAY", ..."""

    name: str
    space: str
    is_srgb: bool


def apply_profile(image: Image.Image, convert: bool) -> tuple[Image.Image, list[str]]:
    """Convert the image from its colour profile to sRGB, or only note that the profile is ignored.

    Images without a profile, or with that of sRGB, are returned as they are. Converted ones are RGB or RGBA.
    """
    icc = image.info.get("icc_profile")
    if not isinstance(icc, bytes) or not icc:
        return image, []
    if not can_convert():
        return image, ["its colour profile is ignored"]
    try:
        profile = _read_profile(icc)
        if profile.is_srgb:
            return image, []
        mode, sources = _MODES.get(profile.space, ("", ()))
        if not convert or image.mode not in sources:
            return image, [f"its colour profile {profile.name} is ignored"]
        return _convert(image, icc, mode), [f"converted from the colour profile {profile.name} to sRGB"]
    except _ERRORS:
        return image, ["its damaged colour profile is ignored"]


def can_convert() -> bool:
    """True where Pillow was built with Little CMS, as in its wheels."""
    return bool(features.check("littlecms2"))


def _convert(image: Image.Image, icc: bytes, mode: str) -> Image.Image:
    converted = _to_srgb(image.convert(mode), icc)
    if image.has_transparency_data:
        converted.putalpha(image.convert("RGBA").getchannel("A"))
    return converted


def _to_srgb(image: Image.Image, icc: bytes) -> Image.Image:
    """Convert an image of the mode of its profile to RGB."""
    converted = ImageCms.profileToProfile(
        image, ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    assert converted is not None  # None is returned where an image is changed in place
    return converted


@lru_cache(maxsize=32)  # most pictures of a folder share a few profiles
def _read_profile(icc: bytes) -> _Profile:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    space = profile.profile.xcolor_space.strip()
    description = printable(" ".join((profile.profile.profile_description or "").split()))
    name = description if len(description) <= _MAX_NAME else f"{description[:_MAX_NAME]}..."
    return _Profile(f"{name!r}" if name else "without a name", space, _is_srgb(icc, space))


def _is_srgb(icc: bytes, space: str) -> bool:
    """True where the profile's colours are those of sRGB, whatever its name is."""
    if space not in ("RGB", "GRAY"):
        return False
    grid = list(product(_LEVELS, repeat=3)) if space == "RGB" else [(level,) * 3 for level in _LEVELS]
    colours = Image.fromarray(np.array([grid], np.uint8))
    converted = _to_srgb(colours.convert(_MODES[space][0]), icc)
    difference = np.asarray(converted).astype(int) - np.asarray(colours)
    return bool(abs(difference).max() <= _SRGB_TOLERANCE)
