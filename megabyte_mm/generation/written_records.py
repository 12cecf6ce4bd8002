"""Completed records as files: a file for each generated part, and pictures on a contact sheet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_adapters import Bytes, ByteStream, ImageAdapter, contact_sheet, write_atomically
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.generation.continuation import SHEET
from megabyte_mm.generation.records import CompletedRecord, RecordRequest


@dataclass(frozen=True)
class FirstParts:
    """The given parts of a record by their names.

    stem: first part of the names of its files. original: the picture that the generated ones may be compared with.
    """

    stem: str
    parts: Mapping[str, ByteStream]
    original: ByteStream | None = None


def record_files(bundle: Bundle, stem: str, request: RecordRequest) -> list[str]:
    """The names of the files of the generated parts, record by record."""
    suffixes = [bundle.modalities[name].adapter.output_suffix for name in request.generated]
    repeated = [suffixes.count(suffix) > 1 for suffix in suffixes]
    parts = [f"-{name}" if is_one else "" for name, is_one in zip(request.generated, repeated, strict=True)]
    return [
        f"{stem}-{number:03d}{part}{suffix}"
        for number in range(request.count)
        for part, suffix in zip(parts, suffixes, strict=True)
    ]


def write_records(
    folder: Path,
    bundle: Bundle,
    firsts: Sequence[FirstParts],
    requests: Sequence[RecordRequest],
    completed: Sequence[Sequence[CompletedRecord]],
) -> Iterator[tuple[Path, str, ByteStream | None]]:
    """Write the generated parts, and yield each file with the part's name and stream; a contact sheet comes last.

    The sheet has a row for each record with generated pictures: its given picture, the samples and the original.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for first, request, records in zip(firsts, requests, completed, strict=True):
        names = iter(record_files(bundle, first.stem, request))
        for record in records:
            for name in record.generated:
                file, stream = folder / next(names), record.parts[name]
                bundle.modalities[name].adapter.write(stream, file)
                yield file, name, stream
        rows.append(_row(bundle, first, records) if records else [])
    if rows := [row for row in rows if row]:
        sheet = contact_sheet(rows)
        write_atomically(folder / SHEET, lambda temporary: sheet.save(temporary))
        yield folder / SHEET, "", None


def _row(bundle: Bundle, first: FirstParts, records: Sequence[CompletedRecord]) -> list[Bytes]:
    """The pictures of a row of the contact sheet; none where nothing generated is a picture."""
    adapters = {name: modality.adapter for name, modality in bundle.modalities.items()}
    pictured = [name for name in records[0].generated if isinstance(adapters[name], ImageAdapter)]
    if not pictured:
        return []
    adapter = adapters[pictured[-1]]
    assert isinstance(adapter, ImageAdapter)
    given = [(adapters[name], stream) for name, stream in first.parts.items()]
    row = [each.pixels(stream) for each, stream in given if isinstance(each, ImageAdapter)]
    row += [adapter.pixels(record.parts[pictured[-1]]) for record in records]
    return row if first.original is None else [*row, adapter.pixels(first.original)]
