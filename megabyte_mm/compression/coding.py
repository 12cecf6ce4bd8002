"""Windows of bytes to coded bytes and back, through a model's steps and constriction's range coder.

Both directions step through the same decoder, symbol by symbol: a parallel `forward` gives numbers that differ in the
last bits, and one such bit in a probability is enough to turn all that follows. A row's numbers do not depend on the
rows beside it, so each window is coded on its own and may be read in any company.

Legend: B rows, T symbols, V = 256 bytes. END is never coded: whoever reads knows the lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from constriction import stream as entropy
from numpy.typing import NDArray
from torch import Tensor

from megabyte_mm.alphabet import BYTES
from megabyte_mm.models.base import ByteModel, Decoder, evaluating
from megabyte_mm.models.decoding.execution import DEFAULT_EXECUTION, Execution

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

AT_ONCE = 64
"""Steps whose probabilities are kept before they are given to the coder, which takes many symbols faster than one."""
_WORD = 4
"""Bytes of the numbers that constriction's coders write and read."""


@dataclass(frozen=True)
class Window:
    """What is coded on its own: n bytes that a model reads from a fresh context.

    length: n. condition: the number of its class. known: (n,) bool, which bytes are those `unit` places before; these
    are read by the model, and not coded. None where all are coded.
    """

    length: int
    condition: int = 0
    known: NDArray[np.bool_] | None = None
    unit: int = 1


class Coded(NamedTuple):
    """A window's coded bytes, and what the model says that they cost, in nats."""

    data: bytes
    nats: float


def encode(
    model: ByteModel,
    windows: Sequence[tuple[Window, Bytes]],
    batch_size: int = 16,
    execution: Execution = DEFAULT_EXECUTION,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> list[Coded]:
    """Each window's bytes coded, in the order given.

    windows: with each its (n,) uint8, n <= max_len. Raises ValueError where the model cannot run that way.
    """
    coded: dict[int, Coded] = {}
    for decoder, rows in _batches(model, [window for window, _ in windows], batch_size, execution):
        writers = [_Writer(windows[row][1], windows[row][0].known) for row in rows]

        def told(t: int, probabilities_BV: Floats, writers: list[_Writer] = writers) -> list[int]:
            return [writers[row].write(t, probabilities_BV[row]) for row in range(len(probabilities_BV))]

        _walk(model, decoder, [windows[row][0] for row in rows], execution, told, on_bytes)
        coded |= {row: writer.finish() for row, writer in zip(rows, writers, strict=True)}
    return [coded.get(row, Coded(b"", 0.0)) for row in range(len(windows))]


def decode(
    model: ByteModel,
    windows: Sequence[tuple[Window, bytes]],
    batch_size: int = 16,
    execution: Execution = DEFAULT_EXECUTION,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> list[Bytes]:
    """The bytes of windows that `encode` coded with the same model, execution and kind of machine.

    Other numbers give other bytes, mostly without a word: whoever calls checks them. Raises ValueError where no bytes
    at all can have been coded so.
    """
    found: dict[int, Bytes] = {}
    for decoder, rows in _batches(model, [window for window, _ in windows], batch_size, execution):
        readers = [_Reader(*windows[row]) for row in rows]

        def told(t: int, probabilities_BV: Floats, readers: list[_Reader] = readers) -> list[int]:
            return [readers[row].read(t, probabilities_BV[row : row + 1]) for row in range(len(probabilities_BV))]

        _walk(model, decoder, [windows[row][0] for row in rows], execution, told, on_bytes)
        found |= {row: reader.data for row, reader in zip(rows, readers, strict=True)}
    return [found.get(row, np.empty(0, np.uint8)) for row in range(len(windows))]


def probabilities(logits_BV: Tensor) -> Floats:
    """What the coder takes for the bytes: (B, 257) -> (B, 256) float32, all rows finite and of sum 1.

    A model that has diverged says nothing: its rows become even.
    """
    logits_BV = logits_BV[:, :BYTES].float().cpu()
    even_B1 = ~torch.isfinite(logits_BV).all(dim=1, keepdim=True)
    return logits_BV.masked_fill(even_B1, 0.0).softmax(dim=1).numpy()


@contextmanager
def repeatable(execution: Execution) -> Iterator[None]:
    """Decoding steps with the same numbers on any number of threads: torch's run on one thread, native ones on all."""
    with nullcontext() if execution.backend == "native" else one_thread():
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch's operations on one thread: the order of their sums depends on how threads share the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def start_empty(decoder: Decoder, rows: int, condition_B: Tensor | None = None) -> Tensor:
    """Logits of the first symbol of each row. The condition is read by torch's operations, whatever the backend."""
    nothing = torch.empty(0, dtype=torch.long, device=decoder.conditions.device)
    with one_thread():
        return decoder.prefill_rows([nothing] * rows, condition_B)


def _batches(
    model: ByteModel, windows: Sequence[Window], batch_size: int, execution: Execution
) -> Iterator[tuple[Decoder, list[int]]]:
    """Rows that are stepped together, the longest first, so that few wait for others; and a decoder for them."""
    order = sorted(range(len(windows)), key=lambda row: -windows[row].length)
    order = [row for row in order if windows[row].length]
    if not order:
        return
    decoder = model.decoder(min(batch_size, len(order)), capacity=model.max_len, execution=execution)
    for start in range(0, len(order), batch_size):
        yield decoder, order[start : start + batch_size]


def _walk(
    model: ByteModel,
    decoder: Decoder,
    windows: Sequence[Window],
    execution: Execution,
    told: Callable[[int, Floats], list[int]],
    on_bytes: Callable[[int], None],
) -> None:
    """Step through windows of falling lengths. told: takes a place and the probabilities there, of
    the rows that are not at their end, and gives their symbols.
    """
    device = next(model.parameters()).device
    conditions_B = torch.tensor([window.condition for window in windows], device=device)
    running = len(windows)
    with evaluating(model), repeatable(execution):
        logits_BV = start_empty(decoder, len(windows), conditions_B)
        for t in range(windows[0].length):
            while windows[running - 1].length <= t:
                running -= 1
                decoder.finish_row(running)
            symbols = told(t, probabilities(logits_BV[:running]))
            on_bytes(running)
            if t + 1 < windows[0].length:
                symbols += [0] * (len(windows) - running)
                logits_BV = decoder.step(torch.tensor(symbols, device=device))


class _Writer:
    """Codes one window. Its bytes are known; their probabilities come one place after the other."""

    def __init__(self, data: Bytes, known: NDArray[np.bool_] | None) -> None:
        self._symbols, self._known = data.tolist(), known
        self._coder = entropy.queue.RangeEncoder()
        self._waiting: list[Floats] = []
        self._coming: list[int] = []
        self._nats = 0.0

    def write(self, t: int, probabilities_V: Floats) -> int:
        symbol: int = self._symbols[t]
        if self._known is None or not self._known[t]:
            self._waiting.append(probabilities_V)
            self._coming.append(symbol)
            if len(self._coming) == AT_ONCE:
                self._flush()
        return symbol

    def finish(self) -> Coded:
        self._flush()
        return Coded(_ended(self._coder), self._nats)

    def _flush(self) -> None:
        if not self._coming:
            return
        symbols_T, probabilities_TV = np.array(self._coming, np.int32), np.stack(self._waiting)
        self._coder.encode(symbols_T, _categorical(), probabilities_TV)
        chosen_T = probabilities_TV[np.arange(len(symbols_T)), symbols_T].astype(np.float64)
        self._nats -= float(np.log(np.maximum(chosen_T, np.finfo(np.float32).tiny)).sum())
        self._waiting.clear()
        self._coming.clear()


class _Reader:
    """Decodes one window."""

    def __init__(self, window: Window, coded: bytes) -> None:
        self.data = np.empty(window.length, np.uint8)
        self._window, self._family = window, _categorical()
        words = np.frombuffer(coded + bytes(-len(coded) % _WORD), ">u4").astype(np.uint32)
        self._coder = entropy.queue.RangeDecoder(words)

    def read(self, t: int, probabilities_1V: Floats) -> int:
        known = self._window.known
        if known is not None and known[t]:
            symbol = int(self.data[t - self._window.unit])
        else:
            symbol = self._next(probabilities_1V)
        self.data[t] = symbol
        return symbol

    def _next(self, probabilities_1V: Floats) -> int:
        try:
            return int(self._coder.decode(self._family, probabilities_1V)[0])
        except AssertionError as error:  # constriction's own, where no symbol fits
            raise ValueError("its blocks are not what these probabilities make of any bytes") from error


def _ended(coder: entropy.queue.RangeEncoder) -> bytes:
    """The fewest bytes that say all that was coded, the highest of each word first; a reader sees zeros after them.

    constriction itself ends with whole words. What it holds at the end is an interval of 64-bit numbers, any of which
    will do, and so the one with the most zeros: 1.6 bytes less in each window.
    """
    words: NDArray[np.uint32] = coder.get_compressed().astype(">u4")
    count: int
    lower: int
    width: int
    count, (lower, width) = coder.pos()
    for kept in range(8 if count <= len(words) else 0):
        zeros = 64 - 8 * kept
        point = -(-lower >> zeros) << zeros
        if point < min(lower + width, 2**64):
            return (words[:count].tobytes() + point.to_bytes(8, "big")[:kept]).rstrip(b"\0")
    return words.tobytes().rstrip(b"\0")


def _categorical() -> entropy.model.Categorical:
    """A distribution of its own for each symbol. Not `perfect`: that is 300 times slower, and saves 0.01 %."""
    return entropy.model.Categorical(perfect=False)
