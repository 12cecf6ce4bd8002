"""A file's cut_prefix, what a model generates after it, and these continuations as files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from data_adapters import Adapter, Bytes, ByteStream, Format, ImageAdapter, contact_sheet, write_atomically
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.errors import ArgumentValueError, check_positive
from megabyte_mm.generation import GenerationRequest, SamplingParams, generate_batch

SHEET = "contact_sheet.png"
UNKNOWN = 128
"""The grey that stands on a contact sheet for what a prefix leaves open."""


@dataclass(frozen=True)
class Continuations:
    """What was drawn after one prefix.

    stem: begins the files' names. format: of the prefix, and so of its continuations. prefix: (t,) uint8, t >= 0.
    continuations: whole streams, the prefix included. original: the stream that the prefix was cut from, if any.
    """

    stem: str
    format: Format
    prefix: Bytes
    continuations: Sequence[Bytes]
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
        for name, data in zip(
            file_names(item.stem, len(item.continuations), adapter, item.format), item.continuations, strict=True
        ):
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
        tiles = [adapter.pixels(ByteStream(data, item.format), fill=UNKNOWN) for data in item.continuations]
        if not len(item.prefix):
            side = int(np.ceil(len(tiles) ** 0.5))
            rows += [tiles[start : start + side] for start in range(0, len(tiles), side)]
            continue
        before = adapter.pixels(ByteStream(item.prefix, item.format), fill=UNKNOWN)
        after = [] if item.original is None else [adapter.pixels(ByteStream(item.original, item.format))]
        rows.append([before, *tiles, *after])
    return contact_sheet(rows)


def continue_file(
    bundle: Bundle,
    file: str | os.PathLike[str],
    keep: float | None = None,
    length: int | None = None,
    count: int = 4,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    condition: str | None = None,
) -> Continuations:
    """Continue a file `count` times, without writing anything: `megabyte-mm generate --prefix` from Python.

    bundle: of one modality (`Bundle.of` takes it out of a mix). keep: the share of the file that the model is given,
    cut at a whole pixel, frame or character; by default half of a picture, and all of anything else. length: bytes
    drawn after it; by default the rest of a picture, one window of anything else. condition: the name of the file's
    class. Raises ValueError for arguments that do not fit the file or the model, MediaError for a file that cannot be
    read.
    """
    check_positive(length=length, count=count)
    stream = bundle.adapter.read(file)
    start = cut_prefix(bundle.adapter, stream, Path(file).stem, keep)
    number = bundle.condition_number(condition)
    request = GenerationRequest(
        start.prefix, choose_length(bundle.adapter, start, length, bundle.window), count, number
    )
    ends = bundle.adapter.length_in(start.format) is None
    (drawn,) = generate_batch(bundle.model, [request], SamplingParams(temperature, top_k, top_p, allow_end=ends), seed)
    return replace(start, continuations=drawn)


def cut_prefix(adapter: Adapter, stream: ByteStream, stem: str, keep: float | None) -> Continuations:
    """What is kept of a stream, and nothing drawn yet; keep as of `continue_file`. Raises ValueError for a share."""
    share = (0.5 if adapter.single_window else 1.0) if keep is None else keep
    if not 0.0 <= share <= 1.0:
        raise ArgumentValueError("keep", f"is {share}; it must be between 0 and 1")
    kept = cut_to_units(adapter, stream.data, round(share * len(stream.data)), stream.format)
    return Continuations(stem, stream.format, kept, continuations=(), original=stream.data)


def cut_to_units(adapter: Adapter, data: Bytes, length: int, format: Format) -> Bytes:
    """The cut_prefix of a stream, of at most so many bytes, that ends with a whole character, pixel or frame."""
    return adapter.cut_to_units(data, length, adapter.unit_in(format))


def choose_length(adapter: Adapter, start: Continuations, asked: int | None, window: int) -> int:
    """How many bytes to draw: what was asked for in whole units, else to the stream's end, else a window.

    Raises ValueError where there is no room for them.
    """
    kept, total, unit = len(start.prefix), adapter.length_in(start.format), adapter.unit_in(start.format)
    wanted = None if asked is None else -(-asked // unit) * unit
    if total is None and not adapter.single_window:
        return wanted or max(window // unit, 1) * unit
    end = window if total is None else total
    if adapter.single_window and end > window:
        raise ValueError(f"{start.stem}: {end} bytes in all, and this model's window holds {window}")
    if end <= kept:
        raise ArgumentValueError("keep", f"leaves nothing to draw of {start.stem}; choose a smaller share")
    if wanted is not None and wanted > end - kept:
        raise ArgumentValueError("length", f"{asked}: only {end - kept} bytes are left to the end of {start.stem}")
    return wanted or end - kept
