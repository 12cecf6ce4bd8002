"""Tables that describe the files beside them: metadata.csv and metadata.jsonl, as Hugging Face has them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

from data_adapters import MediaError
from data_adapters.io import refuse_special
from megabyte_mm.errors import FieldError

TABLES = ("metadata.csv", "metadata.jsonl")
FILE_COLUMN = "file_name"
LABEL_COLUMNS = ("label", "labels", "class", "fine_label")
"""Columns of a table that name the class of a row, the first that is there."""


def is_table(name: str) -> bool:
    """True for the name of a table of metadata."""
    return PurePosixPath(name).name in TABLES


def read_table(root: Path, name: str) -> list[Mapping[str, Any]]:
    """The rows of a table. Raises FieldError for one that cannot be read."""
    try:
        with open_beside(root, name) as file:
            if name.endswith(".csv"):
                return list(csv.DictReader(file))
            return [json.loads(line) for line in file if line.strip()]
    except FieldError:
        raise
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise FieldError("data.path", f": {name} cannot be read: {error}") from error


def open_beside(root: Path, name: str) -> IO[str]:
    """A text beside the files that it describes. Raises FieldError for a pipe or a device."""
    try:
        refuse_special(root / name)
    except MediaError as error:
        raise FieldError("path", f": {error}") from error
    return (root / name).open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def label_column(columns: Any) -> str | None:
    """The column of labels; None where there is none."""
    return next((name for name in LABEL_COLUMNS if name in columns), None)
