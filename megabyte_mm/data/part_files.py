"""The files and texts that make up records of several parts, by the conventions that people have on disk.

A part is read from files of the same name but the suffix (cat1.png and cat1.txt, 7.input.png and 7.output.png), from a
column of metadata.csv or metadata.jsonl (as Hugging Face's imagefolder and audiofolder have them), or, for text, from
the name of the class folder. What belongs together has the same key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from data_adapters import TextAdapter, registry
from data_adapters.base import Adapter
from megabyte_mm.data.files import Files, local_path, walk
from megabyte_mm.data.splits import classes_of, named_splits
from megabyte_mm.data.tables import FILE_COLUMN, TABLES, is_table, read_table
from megabyte_mm.errors import FieldError

TEXT_COLUMNS = ("text", "caption", "transcription")


@dataclass(frozen=True)
class PartRule:
    """How a part is found. adapter: None for the one of the part's name. suffix, column, folder: as of `Source`."""

    adapter: Adapter | None = None
    suffix: str | None = None
    column: str | None = None
    folder: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a metadata table; base: the table's folder below the root."""

    base: str
    values: Mapping[str, Any]

    def path(self, column: str) -> str:
        """A file's name below the root."""
        return str(PurePosixPath(self.base, str(self.values[column])))

    def text(self, column: str) -> str:
        """A text or number. Raises FieldError for anything else, such as a list."""
        value = self.values[column]
        if not isinstance(value, str | int | float):
            raise FieldError("column", f"{column}: {value!r} of {self.key} is no text")
        return str(value)

    @property
    def key(self) -> str:
        """That of its first file."""
        return _stem(self.path(next(column for column in self.values if _names_files(column))))


def adapter_named(name: str, adapter: Adapter | None) -> Adapter:
    """The adapter of a part: its own, or that of its name. Raises FieldError without either."""
    if adapter is not None:
        return adapter
    if name not in registry.ADAPTERS:
        raise FieldError(f"data.sources.{name}.adapter", f"is missing, and no adapter is called {name!r}")
    return registry.build(name, {})


def find_parts(path: str, rules: Mapping[str, PartRule], only: Sequence[str] | None = None) -> dict[str, Files]:
    """The files or texts of each part in a folder, with their keys.

    only: the parts to look for, in the order of the result; by default all. The suffixes of the others still say which
    files are theirs. Raises FieldError for a path that is no folder, for a part of which nothing is there, and for two
    files that would be the same part of a record.
    """
    if not local_path(path).is_dir():
        raise FieldError("data.path", f"{path}: records of several parts are read from a folder on this machine")
    root = local_path(path)
    names = sorted(file.relative_to(root).as_posix() for file in walk(root))
    rows = list(_rows(root, names))
    files_of: dict[str, Files] = {}
    wanted = list(rules if only is None else only)
    texts = [name for name in wanted if isinstance(adapter_named(name, rules[name].adapter), TextAdapter)]
    for name in [*(name for name in wanted if name not in texts), *texts]:  # texts belong to the files of the others
        others = [key for files in files_of.values() for key in (files.keys or {}).values()]
        own = _without_other_suffixes(names, name, rules)
        try:
            files = _part(root, own, rows, name, rules[name], others)
        except FieldError as error:
            raise error.inside(f"data.sources.{name}") from error
        if not files.names:
            raise FieldError(f"data.sources.{name}", f": {path} holds nothing for it")
        files_of[name] = files
    return {name: files_of[name] for name in wanted}


def _without_other_suffixes(names: Sequence[str], part: str, rules: Mapping[str, PartRule]) -> list[str]:
    """The names without those that belong to another part by a longer suffix: 1.mask.png is no 1.mask with .png."""
    own = (rules[part].suffix or "").lower()
    longer = tuple(rule.suffix.lower() for rule in rules.values() if rule.suffix and len(rule.suffix) > len(own))
    return [name for name in names if not name.lower().endswith(longer)] if longer else list(names)


def _part(
    root: Path, names: Sequence[str], rows: Sequence[Row], name: str, rule: PartRule, others: Sequence[str]
) -> Files:
    """others: the keys of the parts that were found before."""
    adapter = adapter_named(name, rule.adapter)
    is_text = isinstance(adapter, TextAdapter)
    if is_text and rule.suffix is None and not _is_in_files(rows, name, rule.column):
        if rule.folder:
            return _with_texts(root, adapter, _folder_names(others))
        if (column := _text_column(rows, name, rule.column)) is not None:
            return _with_texts(root, adapter, [(row.key, row.text(column)) for row in rows])
        files = _of_suffix(root, names, adapter, None)
        known = set(others)
        # A README is no text without its picture; another file like those that have one is.
        suffixes = {PurePosixPath(file).suffix for file, key in (files.keys or {}).items() if key in known}
        if suffixes:
            kept = {file: key for file, key in (files.keys or {}).items() if PurePosixPath(file).suffix in suffixes}
            return _files(root, adapter, kept)
        return _with_texts(root, adapter, _folder_names(others))
    if (column := _file_column(rows, name, rule)) is not None:
        return _files(root, adapter, _keys_of_column(rows, column), set(names))
    return _of_suffix(root, names, adapter, rule.suffix)


def _rows(root: Path, names: Sequence[str]) -> Iterator[Row]:
    """The rows of all metadata tables. Raises FieldError for one that cannot be read, or names no files."""
    for name in names:
        if not is_table(name):
            continue
        for number, entry in enumerate(read_table(root, name), start=1):
            if not isinstance(entry, dict) or not any(map(_names_files, entry)) or None in entry.values():
                raise FieldError("data.path", f": row {number} of {name} has no {FILE_COLUMN}, or lacks a value")
            yield Row(str(PurePosixPath(name).parent), entry)


def _names_files(column: Any) -> bool:
    return isinstance(column, str) and (column == FILE_COLUMN or column.endswith(f"_{FILE_COLUMN}"))


def _text_column(rows: Sequence[Row], name: str, wanted: str | None) -> str | None:
    """The column that holds a part's texts; None without a table. Raises FieldError where no column is the one."""
    if not rows:
        if wanted is not None:
            raise FieldError("column", f"{wanted}: there is no {' or '.join(TABLES)}")
        return None
    columns = [column for column in rows[0].values if not _names_files(column)]
    candidates = [wanted] if wanted else [name, *TEXT_COLUMNS, *(columns if len(columns) == 1 else [])]
    for column in candidates:
        if all(column in row.values for row in rows):
            return column
    if wanted is None and not columns:
        return None  # a table that pairs files
    raise FieldError("column", f"{wanted or 'is missing'}: the table has the columns {', '.join(columns)}")


def _is_in_files(rows: Sequence[Row], name: str, column: str | None) -> bool:
    """True if the table names files that hold a text part."""
    columns = [column] if column else [f"{name}_{FILE_COLUMN}"]
    return bool(rows) and _names_files(columns[0]) and columns[0] in rows[0].values


def _keys_of_column(rows: Sequence[Row], column: str) -> dict[str, str]:
    """The key of each file that a column names. Raises FieldError for a file in rows of several keys."""
    keys: dict[str, str] = {}
    for row in rows:
        file = row.path(column)
        if keys.setdefault(file, row.key) != row.key:
            both = f"{keys[file]} and of {row.key}"
            raise FieldError("column", f"{column}: {file} is in the rows of {both}: copy it under a name for each")
    return keys


def _file_column(rows: Sequence[Row], name: str, rule: PartRule) -> str | None:
    """The column that names a part's files; None where they are found without a table."""
    columns = [column for column in (rows[0].values if rows else ()) if _names_files(column)]
    wanted = rule.column or (f"{name}_{FILE_COLUMN}" if f"{name}_{FILE_COLUMN}" in columns else None)
    if wanted is None and len(columns) > 1 and rule.suffix is None:
        raise FieldError("column", f"is missing: the table names files in {', '.join(columns)}")
    if wanted is not None and not all(wanted in row.values for row in rows):
        raise FieldError("column", f"{wanted}: the table names files in {', '.join(columns) or 'no column'}")
    return wanted


def _of_suffix(root: Path, names: Sequence[str], adapter: Adapter, suffix: str | None) -> Files:
    """The files that end in a suffix, or in one of the adapter's."""
    if suffix is not None:
        keys = {name: name[: -len(suffix)] for name in names if name.lower().endswith(suffix.lower())}
    else:
        known = tuple(adapter.suffixes)
        keys = {name: _stem(name) for name in names if name.lower().endswith(known) and not is_table(name)}
    for key, count in Counter(keys.values()).items():
        if count > 1:
            both = " and ".join(name for name in keys if keys[name] == key)
            raise FieldError("suffix", f"is missing: {both} would be the same part of one record")
    return _files(root, adapter, keys)


def _folder_names(keys: Sequence[str]) -> list[tuple[str, str]]:
    """The class folder's name of each key that lies in one."""
    unique = sorted(set(keys))
    return [(key, label) for key, label in zip(unique, classes_of(unique), strict=True) if label]


def _with_texts(root: Path, adapter: Adapter, texts: Sequence[tuple[str, str]]) -> Files:
    """Texts that are no files, under names made of their keys: several of one key are numbered."""
    seen: Counter[str] = Counter()
    named: dict[str, tuple[str, str]] = {}
    for key, text in texts:
        seen[key] += 1
        named[f"{key}#{seen[key]}" if seen[key] > 1 else key] = key, text
    files = _files(root, adapter, {name: key for name, (key, _) in named.items()})
    return replace(files, texts={name: named[name][1] for name in files.names})


def _files(root: Path, adapter: Adapter, keys: Mapping[str, str], present: set[str] | None = None) -> Files:
    """Files by their keys, without those of no split where there are splits, and without those that are not there."""
    names = sorted(name for name in keys if present is None or name in present)
    used = sorted(named_splits(names) or names)
    return Files(root, tuple(used), adapter, len(names) - len(used), {name: keys[name] for name in used})


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))
