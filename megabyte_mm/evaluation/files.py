"""What files cost a model, byte by byte."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_adapters import Adapter, ByteStream
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.errors import check_positive
from megabyte_mm.evaluation import scoring
from megabyte_mm.evaluation.curves import Curves
from megabyte_mm.evaluation.methods import Method
from megabyte_mm.evaluation.scoring import Score, score_streams

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ScoredFile:
    """A file as a model reads it, and what it cost."""

    path: Path
    stream: ByteStream
    score: Score

    @property
    def bits(self) -> Floats:
        """Bits of each of the m symbols of the stream, in its order, an END last: (m,)."""
        return self.score.bits


def score_files(
    bundle: Bundle,
    files: Sequence[str | os.PathLike[str]],
    method: Method = "plain",
    condition: str | None = None,
    batch_size: int = 16,
) -> list[ScoredFile]:
    """Score files in the model's own window: `megabyte-mm score` from Python.

    bundle: of one modality (`Bundle.of` takes it out of a mix). condition: the name of the class of all files. Raises
    ValueError for a method or files that the model cannot take, MediaError for a file that cannot be read.
    """
    check_positive(batch_size=batch_size)
    adapter, number = bundle.adapter, bundle.condition_number(condition)
    streams = [adapter.read(file) for file in files]
    pairs, unit = [(stream.data, number) for stream in streams], common_unit(adapter, streams)
    scores = score_streams(bundle.model, pairs, bundle.window, unit, bundle.fixed_length, method, batch_size)
    parts = zip(files, streams, scores, strict=True)
    return [ScoredFile(Path(file), stream, score) for file, stream, score in parts]


def bits_by_position(bundle: Bundle, scored: Sequence[ScoredFile]) -> tuple[Floats, Floats]:
    """Mean bits at each position in the patch (P,) and in the window (W,), nan where too few symbols stood."""
    curves = Curves(bundle.model.patch_size, bundle.window)
    for file in scored:
        curves.add(file.score)
    return curves.plottable


def bits_per_byte(scored: Sequence[ScoredFile]) -> float:
    """Of all files as if they were one."""
    return scoring.bits_per_byte([file.score for file in scored])


def common_unit(adapter: Adapter, streams: Sequence[ByteStream]) -> int:
    """Bytes that are whole units of every stream, and of the adapter."""
    return math.lcm(adapter.unit, *(adapter.unit_in(stream.format) for stream in streams))
