"""The scores of many files as a table of text and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from megabyte_mm.evaluation.curves import Curves, Floats
from megabyte_mm.evaluation.scoring import to_bits_per_byte

DIGITS = 4


@dataclass(frozen=True)
class FileResult:
    """The scores of one file, or of many together.

    path: as the user named it. bytes: of the stream. nats: of all its symbols, by method.
    """

    path: str
    bytes: int
    nats: Mapping[str, float]

    def bits_per_byte(self, method: str) -> float | None:
        """All bits over the number of bytes, None for no bytes."""
        return to_bits_per_byte(self.nats[method], self.bytes) if self.bytes else None

    def to_json(self) -> dict[str, Any]:
        """Plain values; JSON has no nan, and null stands for a figure that is not finite."""
        nats = {method: _finite(value) for method, value in self.nats.items()}
        bits = {method: _finite(self.bits_per_byte(method)) for method in self.nats}
        return {"path": self.path, "bytes": self.bytes, "nats": nats, "bits_per_byte": bits}


def total(files: Sequence[FileResult], methods: Sequence[str]) -> FileResult:
    """Return the result of all files as if they were one: nats and bytes are summed, and divided once."""
    nats = {method: math.fsum(file.nats[method] for file in files) for method in methods}
    return FileResult(f"total of {len(files)}", sum(file.bytes for file in files), nats)


def format_table(
    files: Sequence[FileResult],
    methods: Sequence[str],
    modalities: Mapping[str, Sequence[FileResult]] = MappingProxyType({}),
) -> list[str]:
    """Return aligned lines: a heading, a line for each file, the total of each modality, and that of all files."""
    totals = [
        replace(total(results, methods), path=f"{name}: total of {len(results)}")
        for name, results in modalities.items()
    ]
    rows = [["file", "bytes", *methods]]
    rows += [_cells(file, methods) for file in (*files, *totals, total(files, methods))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def _cells(file: FileResult, methods: Sequence[str]) -> list[str]:
    bits = [file.bits_per_byte(method) for method in methods]
    figures = ["-" if value is None else f"{value:.{DIGITS}f}" for value in bits]
    path = "".join(c if ord(c) >= ord(" ") else repr(c)[1:-1] for c in file.path)  # a line break would break the table
    return [path, f"{file.bytes:,}", *figures]


def to_json(
    files: Sequence[FileResult],
    methods: Sequence[str],
    curves: Mapping[str, Curves] | None = None,
    modalities: Mapping[str, Sequence[FileResult]] | None = None,
) -> dict[str, Any]:
    """Return all figures as plain values: methods, files, total, and if given curves and the modalities' totals."""
    values: dict[str, Any] = {
        "methods": list(methods),
        "files": [file.to_json() for file in files],
        "total": total(files, methods).to_json(),
    }
    if modalities is not None:
        values["parts"] = {name: total(results, methods).to_json() for name, results in modalities.items()}
    if curves is not None:
        values["curves"] = {
            method: {"patch": _or_none(curve.patch), "window": _or_none(curve.window)}
            for method, curve in curves.items()
        }
    return values


def _or_none(values: Floats) -> list[float | None]:
    return [_finite(value) for value in values.tolist()]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
