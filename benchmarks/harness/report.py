"""Results of a benchmark: tables, and the machine that they were measured on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.peers import peer_versions

Cell = str | int | float | None


@dataclass
class Table:
    """Rows of named columns: `text` to read, `records` for --json."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The table in Markdown, with rounded figures."""
        lines = [self.columns, *([_format(cell) for cell in row] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
        padded.insert(1, ["-" * width for width in widths])
        body = [f"| {' | '.join(line)} |" for line in padded]
        return "\n".join([f"### {self.title}", "", *body, *(f"\n{note}" for note in self.notes)])

    def records(self) -> list[dict[str, Cell]]:
        """One dictionary for each row, with unrounded figures."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def describe_machine(device: torch.device) -> dict[str, Cell]:
    """What the figures depend on besides the code."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "load before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        **peer_versions(),
    }


def one_line(machine: Mapping[str, Cell]) -> str:
    """The description of a machine without what it lacks."""
    return "; ".join(f"{name}: {value}" for name, value in machine.items() if value is not None)


def write_json(path: Path, machine: Mapping[str, Cell], tables: Mapping[str, list[Table]]) -> None:
    """Write the machine and the unrounded figures of each part: {"machine": {...}, part: {title: [row, ...]}}."""
    records = {part: {table.title: table.records() for table in tables[part]} for part in tables}
    path.write_text(json.dumps({"machine": machine, **records}, indent=1) + "\n", encoding="utf-8")


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _format(cell: Cell) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return str(cell)
