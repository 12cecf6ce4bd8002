"""Continue media files: cut a prefix, choose the length, generate, and write the continuations as files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_adapters import Adapter, Bytes, ByteStream, Format, ImageAdapter, contact_sheet, write_atomically
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.errors import ArgumentValueError, check_positive
from megabyte_mm.generation.batching import GenerationRequest, generate_batch
from megabyte_mm.generation.sampling import SamplingParams
from megabyte_mm.models import ByteModel

SHEET = "contact_sheet.png"
UNKNOWN = 128
"""Grey level of the pixels after a prefix on a contact sheet."""


@dataclass(frozen=True, kw_only=True)
class FileRequest(GenerationRequest):
    """A request whose continuations can be written as files.

    stem: first part of the files' names. format: of the prefix, and so of its continuations. original: the stream that
    the prefix was cut from, if any.
    """

    stem: str
    format: Format
    original: Bytes | None = None


@dataclass(frozen=True)
class Continuations:
    """The continuations of one prefix.

    stem, format, original: as of `FileRequest`. prefix: (t,) uint8, t >= 0. continuations: whole streams, the prefix
    included.
    """

    stem: str
    format: Format
    prefix: Bytes
    continuations: Sequence[Bytes]
    original: Bytes | None = None


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
    """Continue a file `count` times in memory: `megabyte-mm generate --prefix` from Python.

    bundle: of one modality (`Bundle.for_modality` selects it in a mix). keep: the share of the file that becomes the
    prefix, cut at a whole pixel, frame or character; by default half of a picture, and all of anything else. length:
    bytes to generate; by default the rest of a picture, one window of anything else. condition: the name of the
    file's class.
    Raises ValueError for arguments that do not fit the file or the model, MediaError for a file that cannot be read.
    """
    check_positive(length=length, count=count)
    stream, number = bundle.adapter.read(file), bundle.condition_number(condition)
    request = prefix_request(bundle.adapter, stream, Path(file).stem, bundle.window, keep, length, count, number)
    sampling = SamplingParams(temperature, top_k, top_p)
    (result,) = generate_continuations(bundle.model, bundle.adapter, [request], sampling, seed)
    return result


def prefix_request(
    adapter: Adapter,
    stream: ByteStream,
    stem: str,
    window: int,
    keep: float | None = None,
    length: int | None = None,
    count: int = 1,
    condition: int = 0,
) -> FileRequest:
    """Return the request to continue a stream; keep, length: as of `continue_file`. Raises ValueError for either."""
    prefix = cut_prefix(adapter, stream, keep)
    to_generate = choose_length(adapter, ByteStream(prefix, stream.format), stem, window, length)
    return FileRequest(prefix, to_generate, count, condition, stem=stem, format=stream.format, original=stream.data)


def empty_request(
    adapter: Adapter, stem: str, window: int, length: int | None = None, count: int = 1, condition: int = 0
) -> FileRequest:
    """Return the request to generate files without a prefix. Raises ValueError where their format is not known."""
    nothing = ByteStream(np.empty(0, np.uint8), dict(adapter.default_format()))
    to_generate = choose_length(adapter, nothing, stem, window, length)
    return FileRequest(nothing.data, to_generate, count, condition, stem=stem, format=nothing.format)


def cut_prefix(adapter: Adapter, stream: ByteStream, keep: float | None = None, unit: int | None = None) -> Bytes:
    """Return the first `keep` of a stream, 0 to 1, cut at a whole pixel, frame or character.

    unit: bytes that stay together, by default the stream's own. Raises ValueError for another share.
    """
    check_share(keep)
    share = (0.5 if adapter.single_window else 1.0) if keep is None else keep
    length = round(share * len(stream.data))
    return adapter.cut_to_units(stream.data, length, unit or adapter.unit_in(stream.format))


def check_share(keep: float | None) -> None:
    """Raise ArgumentValueError for a share of a file below 0 or above 1, and for nan."""
    if keep is not None and not 0.0 <= keep <= 1.0:
        raise ArgumentValueError("keep", f"is {keep}; it must be between 0 and 1")


def choose_length(adapter: Adapter, prefix: ByteStream, stem: str, window: int, length: int | None) -> int:
    """Return the number of bytes to generate: `length` in whole units, else to the stream's end, else one window.

    Raises ValueError where the stream has no room for them.
    """
    kept, total, unit = len(prefix.data), adapter.length_in(prefix.format), adapter.unit_in(prefix.format)
    wanted = None if length is None else -(-length // unit) * unit
    if total is None and not adapter.single_window:
        return wanted or max(window // unit, 1) * unit
    end = window if total is None else total
    if adapter.single_window and end > window:
        raise ValueError(f"{stem}: {end} bytes exceed the model's window of {window}")
    if end <= kept:
        raise ArgumentValueError("keep", f"leaves nothing to generate of {stem}; choose a smaller share")
    if wanted is not None and wanted > end - kept:
        raise ArgumentValueError("length", f"{length}: only {end - kept} bytes are left to the end of {stem}")
    return wanted or end - kept


def generate_continuations(
    model: ByteModel,
    adapter: Adapter,
    requests: Sequence[FileRequest],
    sampling: SamplingParams,
    seed: int = 0,
    **options: Any,
) -> list[Continuations]:
    """Generate the continuations of each request; END is allowed where a format leaves the length open.

    options: of `generate_batch`. Raises GenerationInterrupted on Ctrl-C, whose results `complete_units` takes.
    """
    results = generate_batch(model, requests, with_end(sampling, adapter, requests), seed, **options)
    return [_continuations(request, rows) for request, rows in zip(requests, results, strict=True)]


def with_end(sampling: SamplingParams, adapter: Adapter, requests: Sequence[FileRequest]) -> SamplingParams:
    """The same settings, with END where a format leaves the length open, else without."""
    open_ended = any(adapter.length_in(request.format) is None for request in requests)
    return replace(sampling, allow_end=open_ended)


def complete_units(
    adapter: Adapter, requests: Sequence[FileRequest], results: Sequence[Sequence[Bytes]]
) -> list[Continuations]:
    """Return what an interrupted generation completed: each row cut to whole units, without rows of nothing new."""
    partial = []
    for request, rows in zip(requests, results, strict=True):
        unit = adapter.unit_in(request.format)
        cut = [adapter.cut_to_units(data, len(data), unit) for data in rows]
        if new := [data for data in cut if len(data) > len(request.prefix)]:
            partial.append(_continuations(request, new))
    return partial


def _continuations(request: FileRequest, rows: Sequence[Bytes]) -> Continuations:
    return Continuations(request.stem, request.format, request.prefix, rows, request.original)


def file_names(stem: str, count: int, adapter: Adapter, format: Format) -> list[str]:
    """Return the names that `write_continuations` gives to `count` continuations of one prefix."""
    suffix = str(format.get("suffix", adapter.output_suffix))
    return [f"{stem}-{number:03d}{suffix}" for number in range(count)]


def write_continuations(folder: Path, adapter: Adapter, items: Sequence[Continuations]) -> list[Path]:
    """Write each continuation as a file, and for pictures a contact sheet. Returns the files, the sheet last."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for item in items:
        names = file_names(item.stem, len(item.continuations), adapter, item.format)
        for name, data in zip(names, item.continuations, strict=True):
            adapter.write(ByteStream(data, item.format), folder / name)
            files.append(folder / name)
    if isinstance(adapter, ImageAdapter):
        sheet = picture_sheet(adapter, items)
        write_atomically(folder / SHEET, lambda temporary: sheet.save(temporary))
        files.append(folder / SHEET)
    return files


def picture_sheet(adapter: ImageAdapter, items: Sequence[Continuations]) -> Image.Image:
    """Return a contact sheet: for each prefix a row of the prefix, the rest grey, its continuations and the original.

    Samples without a prefix are laid out as a square.
    """
    rows = []
    for item in items:
        tiles = [adapter.pixels(ByteStream(data, item.format), fill=UNKNOWN) for data in item.continuations]
        if not len(item.prefix):
            side = int(np.ceil(len(tiles) ** 0.5))
            rows += [tiles[start : start + side] for start in range(0, len(tiles), side)]
            continue
        before = adapter.pixels(ByteStream(item.prefix, item.format), fill=UNKNOWN)
        after = [] if item.original is None else [adapter.pixels(ByteStream(item.original, item.format))]
        rows.append([before, *tiles, *after])
    return contact_sheet(rows)
