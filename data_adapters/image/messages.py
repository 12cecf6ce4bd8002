"""Pillow's messages about damaged files, in plain words."""

from __future__ import annotations

import re

from PIL import Image

_DAMAGED = "its contents are damaged"

_PLAIN = {
    r"truncated|incomplete|not enough|unexpected end|\beof\b|end of (file|stream|image)": "its end is missing",
    r"decompressed data too large|too much memory": "a text or profile in it unpacks to more than a megabyte",
    r"decod(er|ing) error|failed to decode|could not create decoder|decoder plugin|codec configuration": _DAMAGED,
    r"broken|corrupt|malformed|\bbad\b|invalid|unrecognized data|inconsistent|checksum": _DAMAGED,
    r"cannot load this image|failed to read|too long in file|cannot extend|raw mode|out of range|buffer": _DAMAGED,
    r"security limit|reformat failed": _DAMAGED,
}
"""Parts of Pillow's messages, in any case -> what they mean."""


def plain_reason(error: Exception) -> str:
    """Return why Pillow cannot decode a file, as the end of a sentence.

    Messages about a kind of file that Pillow does not support stay as they are; those of Python's own exceptions speak
    of Pillow's code, and mean damaged files.
    """
    text = str(error)
    if not text or not isinstance(error, (OSError, ValueError, SyntaxError, EOFError, RuntimeError)):
        return _DAMAGED
    matching = (reason for pattern, reason in _PLAIN.items() if re.search(pattern, text, re.IGNORECASE))
    return next(matching, text.rstrip("."))


def plain_limit(error: Exception) -> str:
    """Return why a file has too many pixels. error: Pillow's, about a decompression bomb, which states their number."""
    stated = re.search(r"\((\d+) pixels\)", str(error))
    size = f"it has {int(stated[1]):,} pixels, and the limit" if stated else "the limit of pixels"
    return f"{size} is {Image.MAX_IMAGE_PIXELS:,}; make it smaller, or raise the image adapter's max_pixels"
