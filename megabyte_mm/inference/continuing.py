"""A file's beginning, and what a model draws after it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from data_adapters import Adapter, Bytes, ByteStream, Format
from megabyte_mm.arguments import UnfitArgumentError, at_least_one
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.generation import Request, Sampling, continue_all
from megabyte_mm.writing import Continuations


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
    at_least_one(length=length, count=count)
    stream = bundle.adapter.read(file)
    start = beginning(bundle.adapter, stream, Path(file).stem, keep)
    number = condition_of(bundle, condition)
    request = Request(start.prefix, length_after(bundle.adapter, start, length, bundle.window), count, number)
    ends = bundle.adapter.length_in(start.format) is None
    (drawn,) = continue_all(bundle.model, [request], Sampling(temperature, top_k, top_p, allow_end=ends), seed)
    return replace(start, drawn=drawn)


def beginning(adapter: Adapter, stream: ByteStream, stem: str, keep: float | None) -> Continuations:
    """What is kept of a stream, and nothing drawn yet; keep as of `continue_file`. Raises ValueError for a share."""
    share = (0.5 if adapter.whole else 1.0) if keep is None else keep
    if not 0.0 <= share <= 1.0:
        raise UnfitArgumentError("keep", f"is {share}; it must be between 0 and 1")
    kept = whole_units(adapter, stream.data, round(share * len(stream.data)), stream.format)
    return Continuations(stem, stream.format, kept, drawn=(), original=stream.data)


def whole_units(adapter: Adapter, data: Bytes, length: int, format: Format) -> Bytes:
    """The beginning of a stream, of at most so many bytes, that ends with a whole character, pixel or frame."""
    cut = adapter.cut(data, length)
    return data[: cut - cut % adapter.unit_in(format)]


def length_after(adapter: Adapter, start: Continuations, asked: int | None, window: int) -> int:
    """How many bytes to draw: what was asked for in whole units, else to the stream's end, else a window.

    Raises ValueError where there is no room for them.
    """
    kept, total, unit = len(start.prefix), adapter.length_in(start.format), adapter.unit_in(start.format)
    wanted = None if asked is None else -(-asked // unit) * unit
    if total is None and not adapter.whole:
        return wanted or max(window // unit, 1) * unit
    end = window if total is None else total
    if adapter.whole and end > window:
        raise ValueError(f"{start.stem}: {end} bytes in all, and this model's window holds {window}")
    if end <= kept:
        raise UnfitArgumentError("keep", f"leaves nothing to draw of {start.stem}; choose a smaller share")
    if wanted is not None and wanted > end - kept:
        raise UnfitArgumentError("length", f"{asked}: only {end - kept} bytes are left to the end of {start.stem}")
    return wanted or end - kept


def condition_of(bundle: Bundle, name: str | None) -> int:
    """The number of a class, of the modality that was taken out of a mix, or 0 for neither.

    Raises ValueError for a class that the model does not know, and for none where it was trained with classes.
    """
    if bundle.mixed:
        return bundle.conditions.index(bundle.mixed)
    classes = ", ".join(bundle.conditions[1:])
    if name is None and classes:
        raise UnfitArgumentError("condition", f"must be one of the classes that this model was trained with: {classes}")
    if name is not None and name not in bundle.conditions:
        known = f"it knows {classes}" if classes else "it was trained without classes"
        raise UnfitArgumentError("condition", f"{name}: unknown to this model; {known}")
    return 0 if name is None else bundle.conditions.index(name)
