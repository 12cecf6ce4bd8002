"""Speed of generation by context, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, NullLocator

from benchmarks.harness.report import Cell, Table

PLOTTED = ("speed", "length")
"""Parts that have panels."""


def plot(tables: Mapping[str, list[Table]], path: Path) -> None:
    """Draw the parts that have panels, at least one, as a PNG file: bytes a second against context.

    `speed` has a panel for each batch, with a line for each implementation.
    """
    panels: list[tuple[str, dict[str, dict[int, float]]]] = []
    if "speed" in tables:
        panels += _by_batch(tables["speed"][0])
    if "length" in tables:
        panels.append(("rotary positions, batch 1", {"megabyte-mm": _line(tables["length"][0].records())}))
    figure = Figure(figsize=(5.5 * len(panels), 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    for (title, lines), axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        _panel(axes, title, lines)
    figure.savefig(path, dpi=120, format="png")


def _by_batch(table: Table) -> list[tuple[str, dict[str, dict[int, float]]]]:
    records = table.records()
    panels = []
    for batch in dict.fromkeys(row["batch"] for row in records):
        rows = [row for row in records if row["batch"] == batch]
        names = dict.fromkeys(str(row["implementation"]) for row in rows)
        lines = {name: _line([row for row in rows if row["implementation"] == name]) for name in names}
        panels.append((f"batch {batch}", lines))
    return panels


def _line(records: list[dict[str, Cell]]) -> dict[int, float]:
    return {int(row["context"] or 0): float(row["bytes/s"] or 0.0) for row in records}


def _panel(axes: Axes, title: str, lines: Mapping[str, Mapping[int, float]]) -> None:
    for name, rates in lines.items():
        axes.loglog(list(rates), list(rates.values()), "o-", label=name)
    contexts = sorted({context for rates in lines.values() for context in rates})
    axes.set_xticks(contexts, [str(context) for context in contexts])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(LogFormatter())
    axes.set_title(title)
    axes.set_xlabel("context, bytes")
    axes.set_ylabel("bytes/s, all rows")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small")
