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
    """A row for each class and one for all; judge: None without classes."""
    columns = ["class", "files", "pixels right", "shape IoU"]
    figures = [figure for figure in _figures(adapter, pairs) if isinstance(figure, PictureFigures)]
    labels = [case.label or "none" for case, _ in pairs]
    judged: list[list[bool]] = []
    if judge is not None:
        columns += ["judged right", "originals", "given part alone"]
        versions = (
            [ByteStream(result.continuations[0], result.format) for _, result in pairs],
            [case.original for case, _ in pairs],
            [ByteStream(result.prefix, result.format) for _, result in pairs],
        )
        for streams in versions:
            found = judge.labels([adapter.pixels(stream) for stream in streams])
            judged.append([one == label for one, label in zip(found, labels, strict=True)])
    table = Table(title, tuple(columns))
    for name in ("all", *sorted(set(labels))):
        rows = [number for number, label in enumerate(labels) if name in ("all", label)]
        cells: list[Cell] = [name, len(rows)]
        cells.append(_mean(figures[row].pixels_right for row in rows))
        cells.append(_mean(figures[row].shape_iou for row in rows))
        cells += [_mean(float(right[row]) for row in rows) for right in judged]
        table.rows.append(tuple(cells))
    if judge is not None:
        table.notes.append(
            "judged right: share that a classifier, trained on the real training pictures, gives the true class; "
            "beside it the same of the originals, and of the given part with the rest black."
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
    """One row: words that the training text has. Raises ValueError for anything but text."""
    figures = [figure for figure in _figures(adapter, pairs, cases) if isinstance(figure, TextFigures)]
    if not figures:
        raise ValueError("only continuations of pictures, sounds and text can be compared")
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
