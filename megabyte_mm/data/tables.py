"""Tables that describe the files beside them: metadata.csv and metadata.jsonl, as Hugging Face has them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

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
        with (root / name).open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file)) if name.endswith(".csv") else [json.loads(line) for line in file]
    except (OSError, ValueError, csv.Error) as error:
        raise FieldError("data.path", f": {name} cannot be read: {error}") from error


def label_column(columns: Any) -> str | None:
    """The column of labels; None where there is none."""
    return next((name for name in LABEL_COLUMNS if name in columns), None)
