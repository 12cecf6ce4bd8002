"""HEIC and AVIF files: pictures in one container, which are read by an optional package and by Pillow."""

from __future__ import annotations

import os

from PIL import Image, features

from data_adapters.base import MediaError

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}


def is_heic(content: bytes) -> bool:
    """True for a HEIF container that holds no AVIF."""
    brands = _brands(content)
    return bool(brands & _HEIC_BRANDS) and not brands & _AVIF_BRANDS


def require_reader(path: str | os.PathLike[str], content: bytes) -> None:
    """Make Pillow read HEIC, where the file is one.

    Raises MediaError where the file is HEIC or AVIF, and what reads it is not installed.
    """
    if _brands(content) & _AVIF_BRANDS and not features.check("avif"):
        raise MediaError(path, "is an AVIF picture, which the installed Pillow cannot read; run: pip install -U pillow")
    if is_heic(content) and "HEIF" not in Image.OPEN:
        try:
            import pillow_heif
        except ImportError as error:
            raise MediaError(path, "is a HEIC picture; to read it, run: pip install 'megabyte-mm[heif]'") from error
        pillow_heif.register_heif_opener()


def orientation_applied(image: Image.Image, content: bytes) -> int:
    """Return the EXIF orientation by which HEIC was turned when it was decoded: 1 for none.

    The container's own boxes turn a picture; its EXIF, which programs keep in step with them, has no effect.
    """
    is_turned = b"irot" in content or b"imir" in content
    return image.info.get("original_orientation") or 1 if is_turned and image.format == "HEIF" else 1


def _brands(content: bytes) -> set[bytes]:
    """The brands in the container's first box: the main one, then, after a version, the compatible ones."""
    if content[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(content[:4], "big"), 512)
    return {content[8:12], *(content[at : at + 4] for at in range(16, end, 4))}
