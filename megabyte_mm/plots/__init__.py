"""Figures and HTML pages from plain numbers: matplotlib figures are returned; nothing is written or shown here.

style.py            array types, colours and helpers that figures share
runs.py scores.py   curves of a run; bits by position, models compared on the same files
heatmaps/           bits of a file drawn over its content
media.py sound.py   pictures, texts and sounds as bytes
continuations.py    continuations of one prefix side by side
html_elements.py report_page.py    files and figures as HTML elements; the page of a run
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from megabyte_mm.lazy import lazy_exports

if TYPE_CHECKING:
    from megabyte_mm.plots.continuations import picture_rows, waveforms
    from megabyte_mm.plots.heatmaps.bytes import bytes_heatmap
    from megabyte_mm.plots.heatmaps.picture import picture_heatmap
    from megabyte_mm.plots.heatmaps.sound import sound_heatmap
    from megabyte_mm.plots.heatmaps.text import text_heatmap
    from megabyte_mm.plots.heatmaps.text_page import text_page
    from megabyte_mm.plots.media import byte_counts, byte_grid, scan_distances, scan_orders, text_bytes
    from megabyte_mm.plots.runs import bits_curves, learning_curve, metric_curve
    from megabyte_mm.plots.scores import bits_per_byte_bars, file_scatter, position_curves
    from megabyte_mm.plots.sound import coding_errors, coding_levels, sound_bytes

__all__ = [
    "bits_curves",
    "bits_per_byte_bars",
    "byte_counts",
    "byte_grid",
    "bytes_heatmap",
    "coding_errors",
    "coding_levels",
    "file_scatter",
    "learning_curve",
    "metric_curve",
    "picture_heatmap",
    "picture_rows",
    "position_curves",
    "scan_distances",
    "scan_orders",
    "sound_bytes",
    "sound_heatmap",
    "text_bytes",
    "text_heatmap",
    "text_page",
    "waveforms",
]

_MODULES = {
    "continuations": ("picture_rows", "waveforms"),
    "heatmaps.bytes": ("bytes_heatmap",),
    "heatmaps.picture": ("picture_heatmap",),
    "heatmaps.sound": ("sound_heatmap",),
    "heatmaps.text": ("text_heatmap",),
    "heatmaps.text_page": ("text_page",),
    "media": ("byte_counts", "byte_grid", "scan_distances", "scan_orders", "text_bytes"),
    "runs": ("bits_curves", "learning_curve", "metric_curve"),
    "scores": ("bits_per_byte_bars", "file_scatter", "position_curves"),
    "sound": ("coding_errors", "coding_levels", "sound_bytes"),
}
"""Matplotlib takes a second to import: the modules are imported when their names are first used."""

__getattr__, __dir__ = lazy_exports(
    __name__, {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}
)
