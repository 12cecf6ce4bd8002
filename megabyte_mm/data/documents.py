"""Files of many texts: each line of a .jsonl, and each row of a .csv, is a document of its own.

A file is read once to find where its documents begin. Their texts are read when they are needed, so that memory does
not grow with them.
"""

from __future__ import annotations

import csv
import io
import json
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from data_adapters import MediaError
from data_adapters.io import refuse_special
from megabyte_mm.errors import FieldError

FIELD = "text"
"""The field of a line, or the column of a table, that is the document."""


def holds_documents(paths: Mapping[str, Path]) -> bool:
    """True for files that are all .jsonl, or all .csv with a column `text`. paths: by their names.

    Raises FieldError for a .csv with other separators than commas, which would be read as one text.
    """
    suffixes = {path.suffix.lower() for path in paths.values()}
    for name, path in paths.items() if suffixes == {".csv"} else ():
        header = _header(path)
        for separator in ";\t":
            if len(header) == 1 and separator in header[0] and FIELD in header[0].split(separator):
                raise FieldError("path", f"{name}: its columns are separated by {separator!r}: save it with commas")
    return suffixes == {".jsonl"} or (suffixes == {".csv"} and all(FIELD in _header(path) for path in paths.values()))


class Documents(Mapping[str, str]):
    """The documents of files by their names, `file/number`. paths: of the files, by their names.

    Raises FieldError, naming the line, where one has no text.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = {str(PurePosixPath(name).with_suffix("")): path for name, path in paths.items()}
        if len(self._paths) < len(paths):
            raise FieldError("path", f": two of {', '.join(paths)} have the same name but the suffix")
        self._spans = {str(PurePosixPath(name).with_suffix("")): _spans(path, name) for name, path in paths.items()}

    def __len__(self) -> int:
        return sum(len(spans) // 2 for spans in self._spans.values())

    def __iter__(self) -> Iterator[str]:
        for stem, spans in self._spans.items():
            yield from (f"{stem}/{number:09d}" for number in range(len(spans) // 2))

    def __getitem__(self, name: str) -> str:
        stem, _, number = name.rpartition("/")
        start, stop = self._spans[stem][2 * int(number) : 2 * int(number) + 2]
        path = self._paths[stem]
        with path.open("rb") as file:
            file.seek(start)
            content = file.read(stop - start)
        if path.suffix.lower() == ".jsonl":
            return str(json.loads(content)[FIELD])
        # Lines end as those of the binary file did: no other character that Unicode calls a line end counts.
        with _long_fields():
            [row] = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="\n"), strict=True)
        return row[_header(path).index(FIELD)]


@contextmanager
def _long_fields() -> Iterator[None]:
    """Read documents of more than Python's 131,072 characters. The limit is the whole process's: it is set back."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _spans(path: Path, name: str) -> array[int]:
    """Where each document begins and ends: 2 numbers each."""
    read = _lines if path.suffix.lower() == ".jsonl" else _rows
    spans = array("q")
    try:
        refuse_special(path)
        with _long_fields():
            for start, stop in read(path, name):
                spans.extend((start, stop))
    except MediaError as error:
        raise FieldError("path", f": {error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        reason = "a line ends in a carriage return alone" if "universal-newline" in str(error) else str(error)
        raise FieldError("path", f"{name}: cannot be read behind {len(spans) // 2} documents: {reason}") from error
    if not spans:
        raise FieldError("path", f"{name}: holds no documents")
    return spans


def _lines(path: Path, name: str) -> Iterator[tuple[int, int]]:
    stop = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            start, stop = stop, stop + len(line)
            if not line.strip():
                continue
            try:
                document = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise FieldError("path", f"{name}: line {number} is no JSON: {error}") from error
            if not isinstance(document, dict) or not isinstance(document.get(FIELD), str):
                raise FieldError("path", f"{name}: line {number} has no field {FIELD!r} that is a text")
            if not document[FIELD].isascii() and not _is_unicode(document[FIELD]):
                raise FieldError("path", f"{name}: line {number} has half of a surrogate pair, which is no character")
            yield start, stop


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _rows(path: Path, name: str) -> Iterator[tuple[int, int]]:
    stop = 0

    def lines() -> Iterator[str]:
        nonlocal stop
        with path.open("rb") as file:
            for number, line in enumerate(file):
                stop += len(line)
                yield line.decode("utf-8-sig" if not number else "utf-8")

    rows = csv.reader(lines(), strict=True)
    column, start = next(rows).index(FIELD), stop
    for number, row in enumerate(rows, start=1):
        if row and len(row) <= column:
            raise FieldError("path", f"{name}: row {number} has no {FIELD}")
        if row:
            yield start, stop
        start = stop


def _header(path: Path) -> list[str]:
    """The columns of a table; none where it cannot be read as one."""
    try:
        refuse_special(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file), [])
    except (MediaError, OSError, UnicodeDecodeError, csv.Error):
        return []
