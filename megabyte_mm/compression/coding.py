"""Windows of bytes to coded bytes and back, through a model's steps and constriction's range coder.

Both directions step through the same decoder, symbol by symbol: a parallel `forward` gives numbers that differ in the
last bits, and one such bit in a probability changes every byte that follows. A row's numbers do not depend on the rows
beside it, so each window is coded on its own and may be decoded in any batch.

Legend: B rows, T symbols, V = 256 bytes. END is never coded: the container holds the lengths.
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

from data_adapters import Bytes
from megabyte_mm.alphabet import BYTES
from megabyte_mm.models.base import ByteModel, Decoder, evaluating
from megabyte_mm.models.decoding.execution import DEFAULT_EXECUTION, Execution
from megabyte_mm.models.transfer import numbers_to_device

Probabilities = NDArray[np.float32]

SYMBOLS_PER_CALL = 64
"""Symbols that the coder is given at once, which is faster than one by one."""
_WORD_BYTES = 4
"""Bytes of the words that constriction's coders write and read."""


@dataclass(frozen=True)
class Window:
    """The n bytes that are coded on their own: a model reads them from a fresh context.

    length: n. condition: the number of the class. filler: (n,) bool, true for bytes that repeat those `unit` bytes
    before; the model reads them, but they are not coded. None for no such byte.
    """

    length: int
    condition: int = 0
    filler: NDArray[np.bool_] | None = None
    unit: int = 1


class Coded(NamedTuple):
    """A window's coded bytes, and their cost by the model's own probabilities, in nats."""

    data: bytes
    nats: float


def encode(
    model: ByteModel,
    windows: Sequence[tuple[Window, Bytes]],
    batch_size: int = 16,
    execution: Execution = DEFAULT_EXECUTION,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> list[Coded]:
    """Code each window's bytes.

    windows: each with its (n,) uint8, n <= max_len. Raises ValueError for an execution that the model does not have.
    """
    coded: dict[int, Coded] = {}
    for decoder, rows in _batches(model, [window for window, _ in windows], batch_size, execution):
        writers = [_Writer(windows[row][1], windows[row][0].filler) for row in rows]

        def write(t: int, probabilities_BV: Probabilities, writers: list[_Writer] = writers) -> list[int]:
            return [writers[row].write(t, probabilities_BV[row]) for row in range(len(probabilities_BV))]

        data = [windows[row][1] for row in rows]
        _step_through(model, decoder, [windows[row][0] for row in rows], execution, write, on_bytes, data)
        coded |= {row: writer.finish() for row, writer in zip(rows, writers, strict=True)}
    return [coded.get(row, Coded(b"", 0.0)) for row in range(len(windows))]


def decode(
    model: ByteModel,
    windows: Sequence[tuple[Window, bytes]],
    batch_size: int = 16,
    execution: Execution = DEFAULT_EXECUTION,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> list[Bytes]:
    """Decode windows that `encode` coded with the same model, execution and kind of machine.

    Other probabilities give other bytes, mostly without an error: the caller compares checksums. Raises ValueError for
    coded bytes that `encode` never writes.
    """
    decoded: dict[int, Bytes] = {}
    for decoder, rows in _batches(model, [window for window, _ in windows], batch_size, execution):
        readers = [_Reader(*windows[row]) for row in rows]

        def read(t: int, probabilities_BV: Probabilities, readers: list[_Reader] = readers) -> list[int]:
            return [readers[row].read(t, probabilities_BV[row : row + 1]) for row in range(len(probabilities_BV))]

        _step_through(model, decoder, [windows[row][0] for row in rows], execution, read, on_bytes)
        decoded |= {row: reader.data for row, reader in zip(rows, readers, strict=True)}
    return [decoded.get(row, np.empty(0, np.uint8)) for row in range(len(windows))]


def probabilities(logits_BV: Tensor) -> Probabilities:
    """Probabilities of the bytes for the coder: (B, 257) -> (B, 256) float32, all rows finite and of sum 1.

    Rows of a model that has diverged become uniform.
    """
    logits_BV = logits_BV[:, :BYTES].float().cpu()
    uniform_B1 = ~torch.isfinite(logits_BV).all(dim=1, keepdim=True)
    return logits_BV.masked_fill(uniform_B1, 0.0).softmax(dim=1).numpy()


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
    """A decoder and the rows that it steps together, the longest first, so that few rows wait for others."""
    order = sorted(range(len(windows)), key=lambda row: -windows[row].length)
    order = [row for row in order if windows[row].length]
    if not order:
        return
    decoder = model.decoder(min(batch_size, len(order)), capacity=model.max_len, execution=execution)
    for start in range(0, len(order), batch_size):
        yield decoder, order[start : start + batch_size]


def _step_through(
    model: ByteModel,
    decoder: Decoder,
    windows: Sequence[Window],
    execution: Execution,
    code: Callable[[int, Probabilities], list[int]],
    on_bytes: Callable[[int], None],
    data: Sequence[Bytes] | None = None,
) -> None:
    """Step through windows of falling lengths.

    code: takes a position and its probabilities (B, V) of the rows that have not ended, and returns their symbols.
    data: the bytes of each window, if they are known: an accelerator is then waited for once in many symbols.
    """
    device = next(model.parameters()).device
    interval = 1 if data is None or device.type == "cpu" else SYMBOLS_PER_CALL
    conditions_B = torch.tensor([window.condition for window in windows])
    running = len(windows)
    pending: list[Tensor] = []
    with evaluating(model), repeatable(execution):
        logits_BV = start_empty(decoder, len(windows), conditions_B)
        for t in range(windows[0].length):
            pending.append(logits_BV[:running])
            ended = sum(window.length == t + 1 for window in windows[:running])
            if len(pending) == interval or ended:
                for back, known_BV in zip(range(len(pending), 0, -1), _fetched(pending), strict=True):
                    symbols = code(t + 1 - back, probabilities(known_BV))
                pending.clear()
            if data is not None:
                symbols = [int(bytes_T[t]) for bytes_T in data[:running]]
            on_bytes(running)
            if t + 1 < windows[0].length:
                symbols += [0] * (len(windows) - running)
                for _ in range(ended):
                    running -= 1
                    decoder.finish_row(running)
                logits_BV = decoder.step(numbers_to_device(symbols, device))


def _fetched(logits: Sequence[Tensor]) -> Sequence[Tensor]:
    """The logits of some steps on the CPU, after one wait."""
    return logits if len(logits) == 1 else torch.stack(list(logits)).cpu().unbind(0)


class _Writer:
    """Encodes one window, whose probabilities arrive position by position."""

    def __init__(self, data: Bytes, filler: NDArray[np.bool_] | None) -> None:
        self._data, self._filler = data.tolist(), filler
        self._coder = entropy.queue.RangeEncoder()
        self._symbols: list[int] = []
        self._probabilities: list[Probabilities] = []
        self._nats = 0.0

    def write(self, t: int, probabilities_V: Probabilities) -> int:
        symbol: int = self._data[t]
        if self._filler is None or not self._filler[t]:
            self._symbols.append(symbol)
            self._probabilities.append(probabilities_V)
            if len(self._symbols) == SYMBOLS_PER_CALL:
                self._flush()
        return symbol

    def finish(self) -> Coded:
        self._flush()
        return Coded(_shortest_end(self._coder), self._nats)

    def _flush(self) -> None:
        if not self._symbols:
            return
        symbols_T, probabilities_TV = np.array(self._symbols, np.int32), np.stack(self._probabilities)
        self._coder.encode(symbols_T, _categorical(), probabilities_TV)
        chosen_T = probabilities_TV[np.arange(len(symbols_T)), symbols_T].astype(np.float64)
        self._nats -= float(np.log(np.maximum(chosen_T, np.finfo(np.float32).tiny)).sum())
        self._symbols.clear()
        self._probabilities.clear()


class _Reader:
    """Decodes one window."""

    def __init__(self, window: Window, coded: bytes) -> None:
        self.data = np.empty(window.length, np.uint8)
        self._window, self._family = window, _categorical()
        words = np.frombuffer(coded + bytes(-len(coded) % _WORD_BYTES), ">u4").astype(np.uint32)
        self._coder = entropy.queue.RangeDecoder(words)

    def read(self, t: int, probabilities_1V: Probabilities) -> int:
        filler = self._window.filler
        if filler is not None and filler[t]:
            symbol = int(self.data[t - self._window.unit])
        else:
            symbol = self._decode(probabilities_1V)
        self.data[t] = symbol
        return symbol

    def _decode(self, probabilities_1V: Probabilities) -> int:
        try:
            return int(self._coder.decode(self._family, probabilities_1V)[0])
        except AssertionError as error:  # of constriction, if no symbol fits
            raise ValueError(
                "the compressed data is damaged, or this model computes different probabilities"
            ) from error


def _shortest_end(coder: entropy.queue.RangeEncoder) -> bytes:
    """The fewest bytes that decode to what was coded, the highest byte of each word first; zeros follow them.

    constriction itself ends with whole words. Its final state is an interval of 64-bit numbers; any of them decodes, so
    the one that ends in the most zero bytes is written: 1.6 bytes less for each window.
    """
    words: NDArray[np.uint32] = coder.get_compressed().astype(">u4")
    count: int
    lower: int
    width: int
    count, (lower, width) = coder.pos()
    for length in range(8 if count <= len(words) else 0):
        zeros = 64 - 8 * length
        point = -(-lower >> zeros) << zeros
        if point < min(lower + width, 2**64):
            return (words[:count].tobytes() + point.to_bytes(8, "big")[:length]).rstrip(b"\0")
    return words.tobytes().rstrip(b"\0")


def _categorical() -> entropy.model.Categorical:
    """A family of distributions, one for each symbol. Not `perfect`: that is 300 times slower and saves 0.01 %."""
    return entropy.model.Categorical(perfect=False)
