"""`megabyte-mm generate` for a model of records of several parts: captions make pictures, sounds make text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_adapters import ByteStream, ImageAdapter, MediaError, TextAdapter, printable
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.cli.files import make_folder, unique_stems
from megabyte_mm.cli.standard_streams import STANDARD
from megabyte_mm.generation import (
    FirstParts,
    RecordsInterrupted,
    SamplingParams,
    bytes_to_generate,
    complete_records,
    find_order,
    order_of_given,
    part_of_file,
    record_files,
    record_request,
    text_part,
    write_records,
)
from megabyte_mm.progress import byte_progress

LONGEST_STEM = 40


def first_parts(bundle: Bundle, files: Sequence[str], texts: Sequence[str], to: str | None = None) -> list[FirstParts]:
    """The records that files and texts begin: file i of each part, and text i, belong together.

    to: as of `find_order`. Raises ValueError for files that are no part of this model, and for parts that differ in
    number.
    """
    by_part: dict[str, list[tuple[str, ByteStream]]] = {}
    for text in texts:
        name, adapter = text_part(bundle)
        by_part.setdefault(name, []).append((text, adapter.stream_of(text)))
    for file in files:
        if file == STANDARD:
            raise ValueError("--prefix -: standard input may be any part of a record; give a text as --text")
        if not Path(file).is_file():
            raise ValueError(f"--prefix {file}: no such file")
        name = part_of_file(bundle, file, to)
        stream = bundle.modalities[name].adapter.read(file)
        for note in stream.notes:
            print(f"{file}: {note}", file=sys.stderr)
        by_part.setdefault(name, []).append((file, stream))
    counts = {name: len(given) for name, given in by_part.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise ValueError(f"--prefix: {listed}; give as many files of each part")
    if not by_part:
        return [FirstParts("sample", {})]
    names = [name for name, _ in next(iter(by_part.values()))]
    stems = text_stems(texts) if texts else unique_stems("--prefix", names)
    originals = [None if texts else _original(bundle, Path(name)) for name in names]
    order = order_of_given(bundle, list(by_part), to)
    return [
        FirstParts(stem, {name: by_part[name][number][1] for name in order}, original)
        for number, (stem, original) in enumerate(zip(stems, originals, strict=True))
    ]


def generate_records(
    bundle: Bundle,
    out: Path,
    firsts: Sequence[FirstParts],
    to: str | None,
    keep: float | None,
    count: int,
    overwrite: bool,
    sampling: SamplingParams,
    **options: Any,
) -> None:
    """Complete records, write the generated parts as files, and print their names, and the texts.

    to: as of `find_order`. options: of `complete_records`.
    """
    requests = []
    for first in firsts:
        order = find_order(bundle, list(first.parts), to)
        requests.append(record_request(bundle, order, list(first.parts.values()), keep, count))
    pairs = list(zip(firsts, requests, strict=True))
    names = [file for first, request in pairs for file in record_files(bundle, first.stem, request)]
    make_folder("out", out, [out / name for name in names], overwrite)
    total = sum(bytes_to_generate(bundle, request) * request.count for request in requests)
    interrupted = False
    with byte_progress(total, "generated") as on_bytes:
        try:
            completed = complete_records(bundle, requests, sampling, on_bytes=on_bytes, **options)
        except RecordsInterrupted as interrupt:
            completed, interrupted = interrupt.records, True
    for file, name, stream in write_records(out, bundle, firsts, requests, completed):
        adapter = bundle.modalities[name].adapter if name else None
        is_text = stream is not None and isinstance(adapter, TextAdapter)
        print(f"{file}: {printable(adapter.decode(stream.data))}" if is_text else file)  # type: ignore[union-attr]
    if interrupted:
        raise KeyboardInterrupt


def text_stems(texts: Sequence[str]) -> list[str]:
    """Names for files that follow texts: their letters and digits, numbered where two are the same."""
    stems = ["_".join("".join(c if c.isalnum() else " " for c in text).split())[:LONGEST_STEM] for text in texts]
    stems = [stem or "text" for stem in stems]
    return stems if len(set(stems)) == len(stems) else [f"{stem}_{number}" for number, stem in enumerate(stems)]


def _original(bundle: Bundle, file: Path) -> ByteStream | None:
    """The picture that lies beside a file under the same name, if that is another file."""
    for modality in bundle.modalities.values():
        for suffix in modality.adapter.suffixes if isinstance(modality.adapter, ImageAdapter) else ():
            beside = file.with_suffix(suffix)
            if beside != file and beside.is_file():
                try:
                    return modality.adapter.read(beside)
                except MediaError:
                    return None
    return None
