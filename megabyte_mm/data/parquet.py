"""Tables of media in .parquet, as Hugging Face datasets writes them, as files: needs pyarrow (extra `parquet`)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from data_adapters import printable
from megabyte_mm.data.splits import class_folder
from megabyte_mm.data.tables import label_column
from megabyte_mm.errors import FieldError

_BATCH = 64
"""Rows in memory at a time."""
_TEXTS = ("text", "caption", "transcription", "sentence")
_MEDIA = ("image", "img", "picture", "audio", "sound", "speech", "bytes", "content", "data")
_BEGINNINGS = {
    b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"BM": ".bmp", b"II*\0": ".tif", b"MM\0*": ".tif",
    b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3", b"\xff\xfb": ".mp3", b"FORM": ".aiff",
}  # fmt: skip


def unpack_parquet(path: str, file: Path, folder: Path, on_bytes: Callable[[int], object]) -> None:
    """Write the rows of a table as files: pictures or sounds by their bytes, with the text of their row beside them.

    A column of labels names the class folders. A table of texts alone becomes a .jsonl of documents. path: for
    messages. Raises FieldError where there is neither, and without pyarrow.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        reason = "reading .parquet takes pyarrow: pip install 'megabyte-mm[parquet]'"
        raise FieldError("path", f"{path}: {reason}") from error
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            schema = table.schema_arrow
            media = _media_column(schema)
            text = next((name for name in _TEXTS if name in schema.names), None)
            label = label_column(schema.names) if media else None
            columns = [name for name in (media, text, label) if name is not None]
            if media is None and text is None:
                known = ", ".join(schema.names)
                reason = f"{path}: no column of {file.name} holds media or a text, but {known}"
                raise FieldError("path", printable(reason))
            rows = _rows(table, columns)
            if media is None:
                assert text is not None
                _write_documents(folder / f"{file.stem}.jsonl", text, rows, on_bytes)
                return
            _write_media(path, folder, file.stem, rows, (media, text, label), _class_names(schema, label), on_bytes)
    except (pyarrow.ArrowException, OSError) as error:
        raise FieldError(
            "path", printable(f"{path}: {file.name} cannot be read: {str(error).splitlines()[0]}")
        ) from error


def _media_column(schema: Any) -> str | None:
    """The column of media: one of bytes and path, or one that is called so, before any other of bytes."""
    from pyarrow import types

    columns = [each for each in schema if _holds_bytes(each.type)]
    likely = [each for each in columns if types.is_struct(each.type) or each.name in _MEDIA]
    return next((each.name for each in likely or columns), None)


def _holds_bytes(kind: Any) -> bool:
    """True for bytes, and for the struct of bytes and path that datasets writes."""
    from pyarrow import types

    if types.is_struct(kind):
        inside = [kind.field(i) for i in range(kind.num_fields)]
        return any(each.name == "bytes" and _holds_bytes(each.type) for each in inside)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _rows(table: Any, columns: list[str]) -> Iterator[Mapping[str, Any]]:
    for batch in table.iter_batches(batch_size=_BATCH, columns=columns):
        yield from batch.to_pylist()


def _class_names(schema: Any, label: str | None) -> list[str]:
    """The names of the numbers of a label column, as datasets stores them."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label]["names"]]
    except (KeyError, TypeError, ValueError):
        return []


def _write_documents(
    target: Path, text: str, rows: Iterator[Mapping[str, Any]], on_bytes: Callable[[int], object]
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8") as file:
        for row in rows:
            if row[text] is not None:
                line = json.dumps({"text": row[text]}) + "\n"
                file.write(line)
                on_bytes(len(line))


def _write_media(
    path: str, folder: Path, stem: str, rows: Iterator[Mapping[str, Any]],
    columns: tuple[str, str | None, str | None], classes: list[str], on_bytes: Callable[[int], object],
) -> None:  # fmt: skip
    media, text, label = columns
    for number, row in enumerate(rows):
        value = row[media]
        content, named = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if content is None:
            raise FieldError("path", f"{path}: row {number} of {stem} has no bytes in {media}: embed the files first")
        name = f"{stem}-{number:08d}"
        below = folder / _class_of(row[label], classes) if label else folder
        below.mkdir(parents=True, exist_ok=True)
        target = below / f"{name}{_suffix(content, named)}"
        if target.exists():
            raise FieldError("path", f"{path}: two tables called {stem}.parquet have rows of one name: rename one")
        target.write_bytes(content)
        if text and row[text] is not None:
            (below / f"{name}.txt").write_text(str(row[text]), encoding="utf-8")
        on_bytes(len(content))


def _class_of(label: Any, classes: list[str]) -> str:
    if label is None or (label == -1 and classes):  # as datasets marks what has no label
        return ""
    name = classes[label] if isinstance(label, int) and 0 <= label < len(classes) else str(label)
    return class_folder(name) or "_"


def _suffix(content: bytes, named: str | None) -> str:
    """That of the stored path, else of the format by its first bytes."""
    if named and re.fullmatch(r"\.\w{1,8}", suffix := PurePosixPath(named).suffix):
        return suffix.lower()
    if content[:4] == b"RIFF":
        return ".webp" if content[8:12] == b"WEBP" else ".wav"
    return next((suffix for begin, suffix in _BEGINNINGS.items() if content.startswith(begin)), ".bin")
