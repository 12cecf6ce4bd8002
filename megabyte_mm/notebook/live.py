"""The curve and samples of a run in a notebook while it trains."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from matplotlib.figure import Figure

from megabyte_mm.generation import SHEET
from megabyte_mm.plots import learning_curve, picture_rows
from megabyte_mm.training.progress import TrainingProgress
from megabyte_mm.training.run_folder import open_run

MAX_FILES = 3
"""Sounds or texts of a validation that are shown; pictures are shown as their contact sheet."""


class LiveRun:
    """Shows a run's curve below the cell, and below it the samples of the latest validation, and updates both.

    Pass it to `megabyte_mm.training.ProgressCallback`.
    """

    def __init__(self) -> None:
        from IPython.display import DisplayHandle

        self._curve, self._samples = DisplayHandle(), DisplayHandle()
        self._is_displayed = False
        self._files: list[Path] = []

    def __call__(self, progress: TrainingProgress) -> None:
        """Update the curve, and the samples if there are new ones."""
        from IPython.display import HTML, Image

        png = io.BytesIO()
        learning_curve(progress.train, progress.val, progress.steps).savefig(png, dpi=100)
        figure = Image(data=png.getvalue(), format="png")
        if not self._is_displayed:
            self._curve.display(figure)
            self._samples.display(HTML("<i>samples appear with the first validation</i>"))
            self._is_displayed = True
        else:
            self._curve.update(figure)
        if progress.samples != self._files:
            self._files = list(progress.samples)
            self._samples.update(show_files(self._files))


def show_files(files: Sequence[Path]) -> Any:
    """Return the contact sheet among the files of a validation, else players or texts of the first few."""
    from IPython.display import HTML, Audio, Image

    sheets = [file for file in files if file.name == SHEET]
    if sheets:
        return Image(data=sheets[0].read_bytes(), width=480)
    elements = []
    for file in files[:MAX_FILES]:
        if file.suffix in (".wav", ".flac"):
            elements.append(Audio(filename=str(file))._repr_html_())
        else:
            text = file.read_text(encoding="utf-8", errors="replace")
            elements.append(f'<pre style="white-space: pre-wrap">{escape(text)}</pre>')
    return HTML("".join(elements))


def sheets_over_time(run: Path) -> Figure:
    """Draw the contact sheets of a run's validations side by side, each with its step.

    run: its folder; of several trainings there, the last one's sheets are shown. Raises ValueError if it has none.
    """
    sheets = sorted(sheet for version in open_run(run).versions[-1:] for sheet in version.rglob(SHEET))
    if not sheets:
        raise ValueError(f"{run}: the last training wrote no contact sheet")
    pictures = [np.asarray(PIL.Image.open(sheet)) for sheet in sheets]
    titles = [f"step {int(sheet.parent.name.removeprefix('step-'))}" for sheet in sheets]
    return picture_rows({"": pictures}, titles, inches=2.4)
