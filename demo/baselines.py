"""Bits per byte of the usual lossless codecs, each file by itself, headers included.

The denominator is the decoded media, as the model sees it: one byte per channel of a pixel, one byte per sample of
sound, one byte per byte of text.
"""

from __future__ import annotations

import io
import lzma
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

Sizes = tuple[int, int]


def bits_per_byte(codec: str, files: Iterable[Path]) -> float:
    """Bits that a codec of CODECS spends on all files, over the decoded bytes. Raises ValueError for no bytes."""
    sizes = [CODECS[codec](path) for path in files]
    decoded = sum(size for _, size in sizes)
    if not decoded:
        raise ValueError(f"{codec}: no bytes to compress")
    return 8 * sum(size for size, _ in sizes) / decoded


def _png(path: Path) -> Sizes:
    return _picture(path, format="PNG", optimize=True)


def _webp(path: Path) -> Sizes:
    return _picture(path, format="WEBP", lossless=True, exact=True, method=6, quality=100)


def _picture(path: Path, **how: Any) -> Sizes:
    coded = io.BytesIO()
    with Image.open(path) as picture:
        picture.save(coded, **how)
        return len(coded.getvalue()), len(picture.tobytes())


def _flac(path: Path) -> Sizes:
    """8-bit FLAC of 8-bit sound; sound that needs 16 bits counts two bytes per sample."""
    sound, rate = soundfile.read(path, dtype="int16")
    narrow = not np.any(sound % 256)
    with tempfile.TemporaryDirectory() as folder:
        coded = Path(folder, "sound.flac")
        soundfile.write(coded, sound, rate, subtype="PCM_S8" if narrow else "PCM_16")
        return coded.stat().st_size, sound.size * (1 if narrow else 2)


def _xz(path: Path) -> Sizes:
    text = path.read_bytes()
    return len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)), len(text)


CODECS: dict[str, Callable[[Path], Sizes]] = {"PNG": _png, "WebP lossless": _webp, "FLAC": _flac, "xz": _xz}
