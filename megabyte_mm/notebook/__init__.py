"""Widgets, players and live figures for notebooks; IPython and ipywidgets are imported where they are used.

live.py            the curve and samples of a run while it trains
show.py            continuations and records side by side, and sliders for temperature and top-p
small_models.py    small models of the demo data, trained in a minute
"""

from megabyte_mm.notebook.live import LiveRun, sheets_over_time
from megabyte_mm.notebook.show import (
    embed_page,
    sampling_sliders,
    show_continuations,
    show_pictures,
    show_players,
    show_records,
    show_texts,
    show_waveforms,
)
from megabyte_mm.notebook.small_models import small_checkpoint, small_data, small_model

__all__ = [
    "LiveRun",
    "embed_page",
    "sampling_sliders",
    "sheets_over_time",
    "show_continuations",
    "show_pictures",
    "show_players",
    "show_records",
    "show_texts",
    "show_waveforms",
    "small_checkpoint",
    "small_data",
    "small_model",
]
