"""Score files from Python, in the model's own window."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_adapters import ByteStream
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.errors import check_positive
from megabyte_mm.evaluation.curves import Curves, Floats
from megabyte_mm.evaluation.methods import Method
from megabyte_mm.evaluation.scoring import Score, score_streams


@dataclass(frozen=True)
class ScoredFile:
    """A file as the model's adapter reads it, and its score."""

    path: Path
    stream: ByteStream
    score: Score

    @property
    def bits(self) -> Floats:
        """Bits of each of the m symbols of the stream, END last: (m,)."""
        return self.score.bits


def score_files(
    bundle: Bundle,
    files: Sequence[str | os.PathLike[str]],
    method: Method = "plain",
    condition: str | None = None,
    batch_size: int = 16,
) -> list[ScoredFile]:
    """Score files in the model's own window: `megabyte-mm score` from Python.

    bundle: of one modality (`Bundle.for_modality` selects it in a mix). condition: the name of the class of all files.
    Raises ValueError for a method or files that the model does not support, MediaError for a file that cannot be read.
    """
    check_positive(batch_size=batch_size)
    adapter, number = bundle.adapter, bundle.condition_number(condition)
    streams = [adapter.read(file) for file in files]
    pairs = [(stream.data, number) for stream in streams]
    unit = adapter.common_unit(stream.format for stream in streams)
    scores = score_streams(bundle.model, pairs, bundle.window, unit, bundle.fixed_length, method, batch_size)
    triples = zip(files, streams, scores, strict=True)
    return [ScoredFile(Path(file), stream, score) for file, stream, score in triples]


def bits_by_position(bundle: Bundle, files: Sequence[ScoredFile]) -> tuple[Floats, Floats]:
    """Return mean bits at each position in the patch (P,) and in the window (W,), nan where symbols are too few."""
    curves = Curves(bundle.model.patch_size, bundle.window)
    for file in files:
        curves.add(file.score)
    return curves.plottable
