"""A run's curve and samples in a notebook while it trains."""

from __future__ import annotations

import io
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from matplotlib.figure import Figure

from megabyte_mm.generation.continuation import SHEET
from megabyte_mm.plots.continuations import picture_rows
from megabyte_mm.plots.runs import learning_curve
from megabyte_mm.training.progress import TrainingProgress
from megabyte_mm.training.run_folder import open_run

SHOWN = 3
"""Sounds and texts of a validation that are shown; of pictures, the contact sheet."""


class LiveRun:
    """Draws a run's curve below the cell, and below it what the last validation drew; both are replaced as it goes on.

    To be given to `megabyte_mm.training.ProgressCallback`.
    """

    def __init__(self) -> None:
        from IPython.display import DisplayHandle

        self._curve, self._samples = DisplayHandle(), DisplayHandle()
        self._begun = False
        self._drawn: list[Path] = []

    def __call__(self, progress: TrainingProgress) -> None:
        """Draw anew what has changed."""
        from IPython.display import HTML, Image

        png = io.BytesIO()
        learning_curve(progress.train, progress.val, progress.steps).savefig(png, dpi=100)
        figure = Image(data=png.getvalue(), format="png")
        if not self._begun:
            self._curve.display(figure)
            self._samples.display(HTML("<i>samples appear with the first validation</i>"))
            self._begun = True
        else:
            self._curve.update(figure)
        if progress.samples != self._drawn:
            self._drawn = list(progress.samples)
            self._samples.update(shown_files(self._drawn))


def shown_files(files: list[Path]) -> Any:
    """The contact sheet among the files of a validation, or else players or texts of the first few."""
    from IPython.display import HTML, Audio, Image

    sheets = [file for file in files if file.name == SHEET]
    if sheets:
        return Image(data=sheets[0].read_bytes(), width=480)
    parts = []
    for file in files[:SHOWN]:
        if file.suffix in (".wav", ".flac"):
            parts.append(Audio(filename=str(file))._repr_html_())
        else:
            parts.append(preformatted(file.read_text(encoding="utf-8", errors="replace")))
    return HTML("".join(parts))


def preformatted(text: str) -> str:
    """Text as HTML that keeps its line breaks."""
    return f'<pre style="white-space: pre-wrap">{escape(text)}</pre>'


def sheets_over_time(run: Path) -> Figure:
    """The contact sheets of a run's validations side by side, each under its step.

    run: its folder; where it was trained more than once, the sheets are of the last time. Raises ValueError for none.
    """
    sheets = sorted(sheet for version in open_run(run).versions[-1:] for sheet in version.rglob(SHEET))
    if not sheets:
        raise ValueError(f"{run}: its last start left no contact sheet")
    pictures = [np.asarray(PIL.Image.open(sheet)) for sheet in sheets]
    titles = [f"step {int(sheet.parent.name.removeprefix('step-'))}" for sheet in sheets]
    return picture_rows({"": pictures}, titles, inches=2.4)
