"""The sizes that are measured, the device, and where the figures go."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.harness.timing import timed
from megabyte_mm.alphabet import BYTES
from megabyte_mm.models import MegabyteConfig, StackConfig

Row = dict[str, str | int | float | None]

SIZES = {
    "512x6/256x4": (
        MegabyteConfig(8, 8192, StackConfig(512, 6, 8), StackConfig(256, 4, 4)),
        8,
    ),
    # The paper's model of text.
    "758M/262M": (
        MegabyteConfig(8, 8192, StackConfig(2048, 14, 16), StackConfig(1024, 18, 16)),
        1,
    ),
}
"""Models, each with the windows of a training step."""
MEASUREMENT_ERRORS = (AssertionError, ImportError, NotImplementedError, RuntimeError, ValueError)
"""What a row reports in place of figures. Out of memory is a RuntimeError."""
TINY = MegabyteConfig(4, 32, StackConfig(16, 1, 2), StackConfig(16, 1, 2))


@dataclass
class Settings:
    """How a part measures, and its rows so far, which are in its JSON file as soon as they are measured.

    Args:
        device: Where everything is computed.
        tiny: Toy sizes, to see that it runs.
        path: The JSON file of the part.
    """

    device: torch.device
    tiny: bool
    path: Path

    def __post_init__(self) -> None:
        self.rows: list[Row] = []

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    @property
    def sizes(self) -> dict[str, tuple[MegabyteConfig, int]]:
        """Models by name, each with the windows of a training step."""
        if not self.tiny:
            return SIZES
        return {f"tiny {number}": (replace(TINY, max_len=32 * number), 2) for number in range(1, len(SIZES) + 1)}

    def add(self, row: Row) -> None:
        """Write a row, and print it."""
        self.rows.append(row)
        write_rows(self.path, self.rows)
        print("; ".join(f"{name}: {_short(value)}" for name, value in row.items()), flush=True)

    def attempt(self, row: Row, measure: Callable[[], Row]) -> None:
        """Add a row with what `measure` returns, or with the first line of its error."""
        try:
            self.add(row | measure())
        except MEASUREMENT_ERRORS as error:
            self.add(row | {"error": (str(error) or type(error).__name__).splitlines()[0]})

    def seconds(self, run: Callable[[], object], calls: int) -> float:
        """Seconds of a call, after two that warm up."""
        timed(run, 2, self.device)
        return timed(run, 1 if self.tiny else calls, self.device)


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write a JSON file whole: a part may be ended at any time."""
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def random_ids(batch: int, length: int, device: torch.device) -> Tensor:
    """Random bytes: (batch, length) int64."""
    return torch.randint(BYTES, (batch, length), generator=torch.Generator().manual_seed(0)).to(device)


def _short(value: str | int | float | None) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
