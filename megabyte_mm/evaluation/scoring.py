"""Streams of any length scored with a model: the nats of each symbol, whatever windows and batches they come to."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from megabyte_mm.alphabet import fill_window
from megabyte_mm.evaluation.methods import Method, check_method, is_sliding, method_nll, patch_positions
from megabyte_mm.models.base import ByteModel
from megabyte_mm.windows import ScoringWindows

Bytes = NDArray[np.uint8]

DIVERGED = "the model's output is not finite: its training has diverged; take an earlier checkpoint"


@dataclass(frozen=True)
class Score:
    """What the m symbols of a stream cost: its bytes and, where it ends inside a window, the first END.

    nats: (m,) float32. patch_position: (m,) int32, where in its patch each symbol stood in the pass that scored it.
    window_position: (m,) int32, where in the window that scored it. bytes: of the stream, END not counted.
    """

    nats: NDArray[np.float32]
    patch_position: NDArray[np.int32]
    window_position: NDArray[np.int32]
    bytes: int

    @property
    def bits(self) -> NDArray[np.float64]:
        """Of each symbol, in the stream's order, an END last: (m,)."""
        bits: NDArray[np.float64] = self.nats.astype(np.float64) / math.log(2)
        return bits

    @property
    def total_nats(self) -> float:
        """Of all symbols, END too."""
        return float(self.nats.sum(dtype=np.float64))

    @property
    def bits_per_byte(self) -> float:
        """All bits over the number of bytes; nan for a stream of none."""
        return self.total_nats / self.bytes / math.log(2) if self.bytes else math.nan


def bits_per_byte(scores: Sequence[Score]) -> float:
    """Of all streams as if they were one: bits and bytes are added up, and divided once; nan for no bytes."""
    size = sum(score.bytes for score in scores)
    return math.fsum(score.total_nats for score in scores) / size / math.log(2) if size else math.nan


def check_finite(scores: Iterable[Score]) -> None:
    """Raise ValueError where a model gave no figure for one of its streams."""
    if not all(math.isfinite(score.total_nats) for score in scores):
        raise ValueError(DIVERGED)


class _Stream(NamedTuple):
    data: Bytes
    condition: int
    score: Score
    last_view: int
    """How many views there are up to its last one, of all streams so far."""


class _View(NamedTuple):
    stream: _Stream
    start: int
    seen: int


def score_streams(
    model: ByteModel,
    streams: Iterable[tuple[Bytes, int]],
    window: int,
    unit: int = 1,
    fixed_length: bool = False,
    method: Method = "plain",
    batch_size: int = 16,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> Iterator[Score]:
    """The score of each stream, in order; streams are taken only as they are needed, and share batches.

    streams: ((n,) uint8, condition) each. window: symbols that are read at once, a multiple of unit. unit: bytes that
    stay together. fixed_length: whether streams never end, so that no END is scored. on_bytes: hears how many bytes
    each batch has scored. Raises ValueError for a method that the model cannot be read by, or a window that it cannot
    take. The model should be in eval mode.
    """
    check_method(method, model, unit)
    views = ScoringWindows(window, unit, is_sliding(method), fixed_length)
    places = patch_positions(method, window, model.patch_size, unit).numpy().astype(np.int32)
    waiting: deque[_Stream] = deque()
    to_read, read = _views(streams, views, waiting), 0
    while batch := list(islice(to_read, batch_size)):
        nats_BT = _nats(model, batch, window, method, unit)
        on_bytes(sum(_keep(view, row, places) for view, row in zip(batch, nats_BT, strict=True)))
        read += len(batch)
        while waiting and waiting[0].last_view <= read:
            yield waiting.popleft().score
    yield from (stream.score for stream in waiting)  # such as hold no bytes


def _views(streams: Iterable[tuple[Bytes, int]], views: ScoringWindows, waiting: deque[_Stream]) -> Iterator[_View]:
    """All views of all streams; each stream is put among those that wait for their score."""
    total = 0
    for data, condition in streams:
        length = np.array([len(data)])
        count, symbols = int(views.num_windows(length)[0]), int(views.num_symbols(length)[0])
        nats, places = np.empty(symbols, np.float32), (np.empty(symbols, np.int32), np.empty(symbols, np.int32))
        total += count
        stream = _Stream(data, condition, Score(nats, *places, len(data)), total)
        waiting.append(stream)
        starts, seen = views.locate(np.repeat(length, count), np.arange(count))
        yield from (_View(stream, *place) for place in zip(starts.tolist(), seen.tolist(), strict=True))


@torch.no_grad()
def _nats(model: ByteModel, batch: list[_View], window: int, method: Method, unit: int) -> NDArray[np.float32]:
    device = next(model.parameters()).device
    rows = [fill_window(view.stream.data[view.start : view.start + window], window) for view in batch]
    ids_BT = torch.from_numpy(np.stack(rows)).to(device)
    condition_B = torch.tensor([view.stream.condition for view in batch], device=device)
    nats: NDArray[np.float32] = method_nll(method, model, ids_BT, condition_B, unit).float().cpu().numpy()
    return nats


def _keep(view: _View, nats_T: NDArray[np.float32], patch_place_T: NDArray[np.int32]) -> int:
    """Put what the view scores into its stream's score, and return how many bytes that are."""
    score, first, window = view.stream.score, view.start + view.seen, len(nats_T)
    stop = min(view.start + window, len(score.nats))
    inside = slice(view.seen, stop - view.start)
    score.nats[first:stop] = nats_T[inside]
    score.patch_position[first:stop] = patch_place_T[inside]
    score.window_position[first:stop] = np.arange(window, dtype=np.int32)[inside]
    return min(stop, score.bytes) - first
