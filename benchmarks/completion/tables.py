"""The figures of all continuations, as tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from benchmarks.completion.cases import Case, Cases
from benchmarks.completion.judge import Judge
from benchmarks.harness.report import Cell, Table
from data_adapters import Adapter, AudioAdapter, ByteStream, ImageAdapter
from megabyte_mm.evaluation.completion import (
    CompletionFigures,
    PictureFigures,
    SoundFigures,
    TextFigures,
    completion_figures,
    mean_defined,
)
from megabyte_mm.generation import Continuations

Pair = tuple[Case, Continuations]


def picture_table(title: str, adapter: ImageAdapter, pairs: Sequence[Pair], judge: Judge | None) -> Table:
    """A row for all pictures, for each class, called as its folder with a slash, and for those in none.

    judge: of those with a class; None where nothing is judged.
    """
    columns = ["class", "files", "pixels right", "shape IoU"]
    figures = [figure for figure in _figures(adapter, pairs) if isinstance(figure, PictureFigures)]
    names = [f"{case.label}/" if case.label else "none" for case, _ in pairs]
    labelled = {number: case.label for number, (case, _) in enumerate(pairs) if case.label}
    judged: list[dict[int, bool]] = []
    if judge is not None:
        columns += ["judged", "judged right", "originals", "given part alone"]
        versions = (
            [ByteStream(result.continuations[0], result.format) for _, result in pairs],
            [case.original for case, _ in pairs],
            [ByteStream(result.prefix, result.format) for _, result in pairs],
        )
        for streams in versions:
            found = judge.labels([adapter.pixels(streams[number]) for number in labelled])
            judged.append({n: one == labelled[n] for n, one in zip(labelled, found, strict=True)})
    table = Table(title, tuple(columns))
    for name in ("all", *sorted(set(names), key=lambda name: (name == "none", name))):
        rows = [number for number, row_name in enumerate(names) if name in ("all", row_name)]
        cells: list[Cell] = [name, len(rows)]
        cells.append(_mean(figures[row].pixels_right for row in rows))
        cells.append(_mean(figures[row].shape_iou for row in rows))
        if judge is not None:
            cells.append(sum(row in labelled for row in rows))
        cells += [_mean(right[row] for row in rows if row in right) for right in judged]
        table.rows.append(tuple(cells))
    if judge is not None:
        table.notes.append(
            "judged: pictures with a class; judged right: share of them that a classifier, trained on the real "
            "training pictures, gives the true class; beside it the same of the originals, and of the given part with "
            "the rest black."
        )
    return table


def sound_table(title: str, adapter: AudioAdapter, pairs: Sequence[Pair]) -> Table:
    """One row: pitch and loudness after the cut."""
    figures = [figure for figure in _figures(adapter, pairs) if isinstance(figure, SoundFigures)]
    semitones = [figure.semitones for figure in figures if not math.isnan(figure.semitones)]
    energies = [figure.energy_error for figure in figures if not math.isnan(figure.energy_error)]
    columns = ("files", "with a pitch", "within a semitone", "frames in tune", "energy off, dB", "of it upwards, dB")
    row = (
        len(figures),
        len(semitones),
        _mean(float(value <= 1) for value in semitones),
        _mean(figure.frames_in_tune for figure in figures),
        float(np.median(np.abs(energies))) if energies else None,
        float(np.median(energies)) if energies else None,
    )
    return Table(title, columns, [row])


def text_table(title: str, adapter: Adapter, pairs: Sequence[Pair], cases: Cases) -> Table:
    """One row: words that the training text has."""
    figures = [figure for figure in _figures(adapter, pairs, cases) if isinstance(figure, TextFigures)]
    columns = ("files", "known words", "of the originals")
    known = _mean(figure.known_words for figure in figures)
    return Table(title, columns, [(len(figures), known, _mean(figure.original_known_words for figure in figures))])


def _figures(adapter: Adapter, pairs: Sequence[Pair], cases: Cases | None = None) -> list[CompletionFigures | None]:
    known = cases.known_words if cases is not None else ()
    return [
        completion_figures(
            adapter, result.format, case.original.data, result.continuations[0], len(result.prefix), known
        )
        for case, result in pairs
    ]


def _mean(values: Iterable[float]) -> float | None:
    """The mean of the values that are not nan; None where none is."""
    mean = mean_defined(values)
    return None if math.isnan(mean) else mean
