"""Continuations as files: pictures, sounds and texts named after their prefix, and a contact sheet of the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data_adapters import Adapter, Bytes, ByteStream, Format, ImageAdapter, contact_sheet, write_atomically

SHEET = "contact_sheet.png"
UNKNOWN = 128
"""The grey that stands on a contact sheet for what a prefix leaves open."""


@dataclass(frozen=True)
class Continuations:
    """What was drawn after one prefix.

    stem: begins the files' names. format: of the prefix, and so of its continuations. prefix: (t,) uint8, t >= 0.
    drawn: whole streams, the prefix included. original: the stream that the prefix was cut from, where there is one.
    """

    stem: str
    format: Format
    prefix: Bytes
    drawn: Sequence[Bytes]
    original: Bytes | None = None


def file_names(stem: str, count: int, adapter: Adapter, format: Format) -> list[str]:
    """What `write_continuations` calls `count` continuations of one prefix."""
    suffix = str(format.get("suffix", adapter.output_suffix))
    return [f"{stem}-{number:03d}{suffix}" for number in range(count)]


def write_continuations(folder: Path, adapter: Adapter, made: Sequence[Continuations]) -> list[Path]:
    """Write every continuation as a file of its own, and for pictures a sheet: one row for each prefix.

    A row shows the prefix with the rest grey, its continuations, and the original. Returns the files, the sheet last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for item in made:
        for name, data in zip(file_names(item.stem, len(item.drawn), adapter, item.format), item.drawn, strict=True):
            adapter.write(ByteStream(data, item.format), folder / name)
            files.append(folder / name)
    if isinstance(adapter, ImageAdapter):
        sheet = picture_sheet(adapter, made)
        write_atomically(folder / SHEET, lambda temporary: sheet.save(temporary))
        files.append(folder / SHEET)
    return files


def picture_sheet(adapter: ImageAdapter, made: Sequence[Continuations]) -> Image.Image:
    """The contact sheet of `write_continuations`. Samples without a prefix are laid out as a square."""
    rows = []
    for item in made:
        tiles = [adapter.pixels(ByteStream(data, item.format), fill=UNKNOWN) for data in item.drawn]
        if not len(item.prefix):
            side = int(np.ceil(len(tiles) ** 0.5))
            rows += [tiles[start : start + side] for start in range(0, len(tiles), side)]
            continue
        before = adapter.pixels(ByteStream(item.prefix, item.format), fill=UNKNOWN)
        after = [] if item.original is None else [adapter.pixels(ByteStream(item.original, item.format))]
        rows.append([before, *tiles, *after])
    return contact_sheet(rows)
