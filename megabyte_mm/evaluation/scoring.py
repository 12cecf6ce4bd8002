"""Score streams of any length with a model: the nats of each symbol, independent of batches."""

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

from data_adapters import Bytes
from megabyte_mm.alphabet import fill_window
from megabyte_mm.errors import DIVERGED
from megabyte_mm.evaluation.methods import Method, check_method, is_sliding, method_nll, patch_positions
from megabyte_mm.models.base import ByteModel
from megabyte_mm.models.transfer import to_device
from megabyte_mm.windows import ScoringWindows


@dataclass(frozen=True)
class Score:
    """The cost of the m symbols of a stream: its bytes and, where it ends inside a window, the first END.

    nats: (m,) float32. patch_position: (m,) int32, each symbol's position in its patch, in the pass that scored it.
    window_position: (m,) int32, its position in the window that scored it. bytes: of the stream, without END.
    """

    nats: NDArray[np.float32]
    patch_position: NDArray[np.int32]
    window_position: NDArray[np.int32]
    bytes: int

    @property
    def bits(self) -> NDArray[np.float64]:
        """Bits of each symbol, END last: (m,)."""
        bits: NDArray[np.float64] = self.nats.astype(np.float64) / math.log(2)
        return bits

    @property
    def total_nats(self) -> float:
        """Nats of all symbols, END included."""
        return float(self.nats.sum(dtype=np.float64))

    @property
    def bits_per_byte(self) -> float:
        """All bits over the number of bytes; nan for a stream of none."""
        return to_bits_per_byte(self.total_nats, self.bytes)


def to_bits_per_byte(nats: float, size: int) -> float:
    """Return nats over `size` bytes as bits per byte; nan for no bytes."""
    return nats / size / math.log(2) if size else math.nan


def bits_per_byte(scores: Sequence[Score]) -> float:
    """Return the bits per byte of all streams as if they were one; nan for no bytes."""
    return to_bits_per_byte(math.fsum(score.total_nats for score in scores), sum(score.bytes for score in scores))


def check_finite(scores: Iterable[Score]) -> None:
    """Raise ValueError where the nats of a stream are not finite."""
    if not all(math.isfinite(score.total_nats) for score in scores):
        raise ValueError(DIVERGED)


class _Stream(NamedTuple):
    data: Bytes
    condition: int
    score: Score
    last_window: int
    """Number of windows up to and with this stream's last, over all streams so far."""


class _Window(NamedTuple):
    stream: _Stream
    start: int
    num_context: int
    """Symbols at its start that an earlier window scores."""


def score_streams(
    model: ByteModel,
    streams: Iterable[tuple[Bytes, int]],
    window: int,
    unit: int = 1,
    fixed_length: bool = False,
    method: Method = "plain",
    batch_size: int = 16,
    on_bytes: Callable[[int], None] = lambda count: None,
    mixed: bool = False,
) -> Iterator[Score]:
    """Yield the score of each stream, in order; streams are read lazily and share batches.

    streams: ((n,) uint8, condition) each. window: symbols read at once, a multiple of unit. unit: bytes that stay
    together. fixed_length: streams never end, and no END is scored. on_bytes: called with the bytes scored by each
    batch. mixed: products in bfloat16, by autocast. Raises ValueError for a method or a window that the model does not
    support. The model should be in eval mode.
    """
    check_method(method, model, unit)
    layout = ScoringWindows(window, unit, is_sliding(method), fixed_length)
    positions = patch_positions(method, window, model.patch_size, unit).numpy().astype(np.int32)
    pending: deque[_Stream] = deque()
    windows, num_scored = _windows(streams, layout, pending), 0
    while batch := list(islice(windows, batch_size)):
        nats_BT = _nats(model, batch, window, method, unit, mixed)
        on_bytes(sum(_store(one, nats_T, positions) for one, nats_T in zip(batch, nats_BT, strict=True)))
        num_scored += len(batch)
        while pending and pending[0].last_window <= num_scored:
            yield pending.popleft().score
    yield from (stream.score for stream in pending)  # streams of no bytes


def _windows(
    streams: Iterable[tuple[Bytes, int]], layout: ScoringWindows, pending: deque[_Stream]
) -> Iterator[_Window]:
    """Yield all windows of all streams, and append each stream to those whose score is pending."""
    total = 0
    for data, condition in streams:
        length = np.array([len(data)])
        count, symbols = int(layout.num_windows(length)[0]), int(layout.num_symbols(length)[0])
        score = Score(
            np.empty(symbols, np.float32), np.empty(symbols, np.int32), np.empty(symbols, np.int32), len(data)
        )
        total += count
        stream = _Stream(data, condition, score, total)
        pending.append(stream)
        starts, num_context = layout.locate(np.repeat(length, count), np.arange(count))
        yield from (_Window(stream, *each) for each in zip(starts.tolist(), num_context.tolist(), strict=True))


@torch.no_grad()
def _nats(
    model: ByteModel, batch: list[_Window], window: int, method: Method, unit: int, mixed: bool
) -> NDArray[np.float32]:
    device = next(model.parameters()).device
    rows = [fill_window(one.stream.data[one.start : one.start + window], window) for one in batch]
    ids_BT = to_device(torch.from_numpy(np.stack(rows)), device)
    condition_B = torch.tensor([one.stream.condition for one in batch])
    with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
        nats_BT = method_nll(method, model, ids_BT, condition_B, unit)
    nats: NDArray[np.float32] = nats_BT.float().cpu().numpy()
    return nats


def _store(window: _Window, nats_T: NDArray[np.float32], positions_T: NDArray[np.int32]) -> int:
    """Write what a window scores into its stream's score, and return the number of bytes."""
    score, first, length = window.stream.score, window.start + window.num_context, len(nats_T)
    stop = min(window.start + length, len(score.nats))
    inside = slice(window.num_context, stop - window.start)
    score.nats[first:stop] = nats_T[inside]
    score.patch_position[first:stop] = positions_T[inside]
    score.window_position[first:stop] = np.arange(length, dtype=np.int32)[inside]
    return min(stop, score.bytes) - first
