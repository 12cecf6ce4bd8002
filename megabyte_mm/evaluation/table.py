"""What many files cost, as a table to read and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from megabyte_mm.evaluation.curves import Curves, Floats

DIGITS = 4


@dataclass(frozen=True)
class FileResult:
    """One file, or many together. path: as it was named. bytes: of its stream. nats: of all its symbols, by method."""

    path: str
    bytes: int
    nats: Mapping[str, float]

    def bits_per_byte(self, method: str) -> float | None:
        """All bits over the number of bytes, None where there are no bytes."""
        return self.nats[method] / self.bytes / math.log(2) if self.bytes else None

    def values(self) -> dict[str, Any]:
        """As it stands in the JSON file, which knows no nan."""
        nats = {method: _finite(value) for method, value in self.nats.items()}
        bits = {method: _finite(self.bits_per_byte(method)) for method in self.nats}
        return {"path": self.path, "bytes": self.bytes, "nats": nats, "bits_per_byte": bits}


def total(files: Sequence[FileResult], methods: Sequence[str]) -> FileResult:
    """All files as if they were one: nats and bytes are added up, and divided once."""
    nats = {method: math.fsum(file.nats[method] for file in files) for method in methods}
    return FileResult(f"total of {len(files)}", sum(file.bytes for file in files), nats)


def table(
    files: Sequence[FileResult],
    methods: Sequence[str],
    parts: Mapping[str, Sequence[FileResult]] = MappingProxyType({}),
) -> list[str]:
    """Aligned lines: a heading, one line for each file, the total of each part by its name, and that of all."""
    totals = [replace(total(its, methods), path=f"{name}: total of {len(its)}") for name, its in parts.items()]
    rows = [["file", "bytes", *methods]]
    rows += [_cells(file, methods) for file in (*files, *totals, total(files, methods))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def _cells(file: FileResult, methods: Sequence[str]) -> list[str]:
    bits = [file.bits_per_byte(method) for method in methods]
    told = ["-" if value is None else f"{value:.{DIGITS}f}" for value in bits]
    path = "".join(c if ord(c) >= ord(" ") else repr(c)[1:-1] for c in file.path)  # a line end would break the table
    return [path, f"{file.bytes:,}", *told]


def to_json(
    files: Sequence[FileResult],
    methods: Sequence[str],
    curves: Mapping[str, Curves] | None = None,
    parts: Mapping[str, Sequence[FileResult]] | None = None,
) -> dict[str, Any]:
    """All figures as JSON has them: methods, files, total, and curves and the totals of parts where they are given.

    None stands for a figure that does not exist.
    """
    values: dict[str, Any] = {
        "methods": list(methods),
        "files": [file.values() for file in files],
        "total": total(files, methods).values(),
    }
    if parts is not None:
        values["parts"] = {name: total(its, methods).values() for name, its in parts.items()}
    if curves is not None:
        values["curves"] = {
            method: {"patch": _or_none(its.patch), "window": _or_none(its.window)} for method, its in curves.items()
        }
    return values


def _or_none(values: Floats) -> list[float | None]:
    return [_finite(value) for value in values.tolist()]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
