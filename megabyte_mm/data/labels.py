"""Labels and splits that are written beside the files, not in their paths.

A file gets the name that it would have in folders of splits and classes: with the label `cat` and in a list of
validation files, photos/1.png is val/cat/photos/1.png. Splits and classes are then read from names alone, also from
prepared data, which has no tables and lists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from data_adapters import printable
from megabyte_mm.data.splits import class_folder, named_splits, split_called
from megabyte_mm.data.tables import FILE_COLUMN, is_table, label_column, open_beside, read_table
from megabyte_mm.errors import FieldError

_LIST = re.compile(r"(\w+?)(?:[_-](?:list|files|names|split))?\.txt", re.IGNORECASE)
_CLASS_SUFFIX = ".cls"
"""Of a file that holds the class of the files beside it that have its key, in a WebDataset."""


class Described:
    """What tables, lists and .cls files in a folder say of its other files. names: of all files in it.

    Raises FieldError for a table or list that cannot be read, or that names files that are not there.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self._names = set(names)
        self._sources: set[str] = set()
        self._labels = self._read_labels(root)
        self._splits = self._read_lists(root)

    def without_sources(self, names: Sequence[str]) -> list[str]:
        """The names without those of the tables, lists and .cls files."""
        return [name for name in names if name not in self._sources]

    def split(self, names: Sequence[str]) -> dict[str, str]:
        """By its new name, in the folder of its split, the name of each file; unchanged where there are no lists.

        Files of no list train, or are left out where a list names those that train.
        """
        if not self._splits:
            return {name: name for name in names}
        others = None if "train" in self._splits.values() else "train"
        split_of = {name: self._splits.get(name, others) for name in names}
        if "train" not in split_of.values():
            raise FieldError(
                "path", "has lists that name every file as one to validate or test on: none is left to train on"
            )
        return {f"{split}/{name}": name for name, split in split_of.items() if split is not None}

    def labelled(self, files: Mapping[str, str]) -> Mapping[str, str]:
        """The files with their label as a folder in their name, below the folder of their split.

        files: the name of each file, by that in its split. Raises FieldError for one without a label where others have
        one.
        """
        if not self._labels:
            return files
        splits = named_splits(list(files))
        found = {}
        for name, file in files.items():
            top, slash, below = name.partition("/")
            split, below = (top, below) if slash and name in splits else (splits.get(name, ""), name)
            found["/".join(filter(None, (split, self._label(file), below)))] = file
        return found

    def _label(self, name: str) -> str:
        label = self._labels.get(name) or self._labels.get(_key(name))
        if label is None:
            where = printable(", ".join(sorted(self._sources)[:2]))
            raise FieldError(
                "path", f"has no label of {name} in {where}: give it one, or take the file out of the folder"
            )
        return class_folder(label) or "_"

    def _read_labels(self, root: Path) -> dict[str, str]:
        """By the name of a file, or by its key, its label."""
        labels: dict[str, str] = {}
        for table in sorted(filter(is_table, self._names)):
            rows = read_table(root, table)
            columns = rows[0] if rows and isinstance(rows[0], dict) else {}
            column = label_column(columns)
            if FILE_COLUMN not in columns or column is None:
                continue
            self._sources.add(table)
            for number, row in enumerate(rows, start=1):
                name, label = (row.get(FILE_COLUMN), row.get(column)) if isinstance(row, dict) else (None, None)
                if not isinstance(name, str) or label in (None, "") or isinstance(label, list | dict):
                    raise FieldError(
                        "path", f"has a row {number} of {table} that lacks its {FILE_COLUMN} or its {column}"
                    )
                labels[str(PurePosixPath(table).parent / name)] = str(label)
        for name in (name for name in self._names if name.endswith(_CLASS_SUFFIX)):
            self._sources.add(name)
            with open_beside(root, name) as file:
                labels[_key(name)] = file.read(4096).strip()
        return labels

    def _read_lists(self, root: Path) -> dict[str, str]:
        """By the name of a file, its split; nothing where no list has files to validate or to test on."""
        splits: dict[str, str] = {}
        lists = []
        for name in sorted(self._names):
            matched = _LIST.fullmatch(name)
            split = split_called(matched[1]) if matched else None
            listed = self._listed(root, name) if split else None
            if split and listed:
                lists.append(name)
                for file in listed:
                    if splits.setdefault(file, split) != split:
                        raise FieldError("path", f"has {file} in the lists of {splits[file]} and of {split}")
        if not {"val", "test"} & set(splits.values()):
            return {}
        self._sources.update(lists)
        return splits

    def _listed(self, root: Path, name: str) -> list[str]:
        """The files that the lines of a text name; none where the first line names no file."""
        listed: list[str] = []
        with open_beside(root, name) as lines:
            for number, line in enumerate(lines, start=1):
                file = str(PurePosixPath(line.strip()[:4096]))
                if file == ".":
                    continue
                if file not in self._names:
                    if not listed:
                        return []
                    raise FieldError(
                        "path", printable(f"has a line {number} of {name} that names {file}, which is not there")
                    )
                listed.append(file)
        return listed


def _key(name: str) -> str:
    """What files of one sample share in a WebDataset: the name up to the first dot."""
    path = PurePosixPath(name)
    return str(path.parent / path.name.partition(".")[0])
