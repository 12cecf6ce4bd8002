"""From prefixes to their continuations, symbol by symbol. It knows decoders, and nothing of what is inside them.

Legend: B rows, T symbols, V the 257 symbols.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from megabyte_mm.alphabet import END
from megabyte_mm.generation.sampling import SamplingParams, sampler
from megabyte_mm.models import (
    DEFAULT_EXECUTION,
    Backend,
    ByteModel,
    Decoder,
    Execution,
    Precision,
    with_rounded_weights,
)

UNIFORM_BLOCK = 256
"""Random numbers of each row that are drawn and sent to the device together."""
SYNC_INTERVAL = 16
"""After so many symbols a device that computes on its own is waited for, to see whether every row has ended."""
NO_SYMBOL = -1
"""Stands for no new symbol of a row: it reads the rest of its prefix, or has all that it was to draw."""


def generate(
    model: ByteModel,
    prefix: Tensor,
    length: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    allow_end: bool = True,
    seed: int = 0,
    condition: Tensor | None = None,
    window: int | None = None,
    backend: Backend = "auto",
    precision: Precision | None = None,
    stream: Callable[[Tensor], object] | None = None,
) -> Tensor:
    """Continue each row of `prefix` by `length` symbols.

    prefix: (B, t) int64, 0..255, t >= 0; condition: (B,) int64 or None -> (B, t + length) int64: the prefix, then what
    was drawn, END to the end once an END was drawn. The same seed gives the same symbols, whatever the other rows hold;
    dropout rests meanwhile. window: how many symbols the model has in sight at most, by default as many as in training;
    more take rotary positions. backend, precision: see `Execution`. stream: called with each (B,) int64 of new symbols.
    Raises ValueError for settings and symbols outside their range, and for a model whose output is not finite.
    """
    if length < 0:
        raise ValueError(f"length is {length}; it must be at least 0")
    _check(prefix)
    sampling = SamplingParams(temperature, top_k, top_p, allow_end)
    columns, execution = [prefix], Execution(backend, precision)
    seeds = row_seeds(seed, len(prefix))
    for ids_B in stream_symbols(model, prefix, length, sampling, seeds, condition, window, execution):
        columns.append(ids_B[:, None])
        if stream is not None:
            stream(ids_B)
    ids_BT = torch.cat(columns, dim=1)
    return torch.nn.functional.pad(ids_BT, (0, prefix.shape[1] + length - ids_BT.shape[1]), value=END)


def _check(prefix: Tensor) -> None:
    if prefix.ndim != 2 or prefix.dtype != torch.int64:
        raise ValueError(f"prefix is {prefix.dtype} of shape {tuple(prefix.shape)}; it must be torch.int64 of (B, t)")
    if prefix.numel() and not 0 <= int(prefix.min()) <= int(prefix.max()) < END:
        raise ValueError("prefix holds numbers outside 0 to 255")


def row_seeds(seed: int, rows: int, first: int = 0) -> list[int]:
    """One seed for each row, so that a sample does not depend on the batch that it was drawn in."""
    return [(seed * 1_000_003 + row) % 2**63 for row in range(first, first + rows)]


def stream_symbols(
    model: ByteModel,
    prefix_BT: Tensor,
    length: int,
    sampling: SamplingParams,
    seeds: list[int],
    condition_B: Tensor | None = None,
    window: int | None = None,
    execution: Execution = DEFAULT_EXECUTION,
) -> Iterator[Tensor]:
    """The continuation of `generate` as it comes, (B,) int64 at a time; it stops early once every row has ended."""
    if not length or not len(prefix_BT):
        return
    decoder = decoder_for(model, len(prefix_BT), window, execution, condition_B)
    prefixes = list(prefix_BT.unbind(0))
    columns = continuations(decoder, prefixes, [length] * len(prefixes), sampling, seeds)
    for ids_B in columns:
        yield ids_B.masked_fill(ids_B == NO_SYMBOL, END)


def decoder_for(
    model: ByteModel, rows: int, window: int | None, execution: Execution, condition_B: Tensor | None = None
) -> Decoder:
    """A decoder of so many rows; of lower precision, it is that of a copy with rounded weights.

    Raises ValueError for a window that does not hold a patch: rows that it cuts short would be at different places.
    """
    if window is not None and window < model.patch_size:
        raise ValueError(f"window is {window}; it must hold at least a patch, {model.patch_size} symbols")
    if execution.precision is not None:
        model = with_rounded_weights(model, execution.precision, model.tied_embeddings)
    return model.decoder(rows, condition_B, window, execution)


def continuations(
    decoder: Decoder,
    prefixes: Sequence[Tensor],
    lengths: Sequence[int],
    sampling: SamplingParams,
    seeds: Sequence[int],
    condition_B: Tensor | None = None,
) -> Iterator[Tensor]:
    """Each row's next symbol as it is drawn, (B,) int64 at a time, until all rows have as many as they are to draw.

    Rows begin at their own times: what a decoder cannot read of their prefixes in parallel it reads beside the drawing
    of others. NO_SYMBOL stands for a row that does so, that has sampled its END, or all of its length.
    Where a row has no room left, the last half of what it has seen becomes a fresh context, and drawing goes on.
    """
    kept = [ids_T[num_truncated(len(ids_T), decoder) :] for ids_T in prefixes]
    logits_BV = _finite(decoder.prefill_rows(kept, condition_B))
    rows = _Rows(decoder, kept, lengths)
    numbers = _uniforms(seeds, rows.waits, logits_BV.device)
    draw = sampler(sampling)
    for uniform_B in numbers:
        ids_B = rows.given()
        if ids_B is None:
            ids_B, new_B = rows.take(draw(logits_BV, uniform_B), sampling.allow_end)
            yield new_B
        if rows.done:
            return
        logits_BV = decoder.step(ids_B, rows.without_room())


class _Rows:
    """Where the rows of a batch are.

    Args:
        decoder: It has read the first `decoder.lengths` symbols of each row.
        prefixes: All that is to be read of each row.
        lengths: How many symbols are to be drawn for each.
    """

    def __init__(self, decoder: Decoder, prefixes: Sequence[Tensor], lengths: Sequence[int]) -> None:
        assert decoder.lengths is not None
        read = decoder.lengths
        self._decoder = decoder
        self.waits = [len(ids_T) - length for ids_T, length in zip(prefixes, read, strict=True)]
        """How many symbols of its prefix each row has yet to read."""
        self._seen = [ids_T[:length] for ids_T, length in zip(prefixes, read, strict=True)]
        """What each row had read when `_columns` began."""
        self._columns: list[Tensor] = []
        device = prefixes[0].device
        self._forced_BW = torch.full((len(prefixes), max(self.waits)), NO_SYMBOL, device=device)
        for row, (ids_T, wait) in enumerate(zip(prefixes, self.waits, strict=True)):
            self._forced_BW[row, :wait] = ids_T[len(ids_T) - wait :]
        self._last = [wait + length - 1 for wait, length in zip(self.waits, lengths, strict=True)]
        """After which step each row has all of its symbols."""
        self._resting_B = torch.tensor([length < 1 for length in lengths], device=device)
        """Rows that draw no more."""
        self._any_rest = min(lengths) < 1
        self._live = {row for row, length in enumerate(lengths) if length > 0}
        for row in set(range(len(lengths))) - self._live:
            decoder.finish_row(row)
        self._step = 0
        self._look_every = sync_interval(device)

    @property
    def done(self) -> bool:
        """Whether no row draws any more."""
        return not self._live

    def given(self) -> Tensor | None:
        """What all rows read next of their prefixes; None once one has none left."""
        if self._step >= min(self.waits):
            return None
        ids_B = self._forced_BW[:, self._step]
        self._columns.append(ids_B)
        self._step += 1
        return ids_B

    def take(self, drawn_B: Tensor, may_end: bool) -> tuple[Tensor, Tensor]:
        """What each row reads next, and its new symbol or NO_SYMBOL."""
        ids_B, new_B, step = drawn_B, drawn_B, self._step
        if step < self._forced_BW.shape[1]:
            forced_B = self._forced_BW[:, step]
            waits_B = forced_B != NO_SYMBOL
            ids_B = torch.where(waits_B, forced_B, drawn_B)
            new_B = drawn_B.masked_fill(waits_B, NO_SYMBOL)
        if self._any_rest:
            ids_B = ids_B.masked_fill(self._resting_B, END)
            new_B = new_B.masked_fill(self._resting_B, NO_SYMBOL)
        self._columns.append(ids_B)
        self._step += 1
        for row in [row for row in self._live if self._last[row] == step]:
            self._rest(row)
            self._resting_B[row] = self._any_rest = True
        if may_end:
            self._end(new_B == END)
        return ids_B, new_B

    def _end(self, ended_B: Tensor) -> None:
        self._resting_B = self._resting_B | ended_B
        self._any_rest = True
        if self._step % self._look_every == 0:
            for row in self._resting_B.nonzero().flatten().tolist():
                self._rest(row)

    def _rest(self, row: int) -> None:
        if row in self._live:
            self._live.remove(row)
            self._decoder.finish_row(row)

    def without_room(self) -> dict[int, Tensor]:
        """A fresh context, which ends with the newest symbol, for each row that has no room for it."""
        lengths, capacity = self._decoder.lengths, self._decoder.capacity
        assert lengths is not None
        full = [row for row in self._live if lengths[row] + 1 >= capacity]
        if not full:
            return {}
        read_BT = torch.stack(self._columns, dim=1)
        self._seen = [torch.cat([ids_T, new_T]) for ids_T, new_T in zip(self._seen, read_BT, strict=True)]
        self._columns = []
        for row in full:
            self._seen[row] = self._seen[row][num_truncated(len(self._seen[row]), self._decoder) :]
        return {row: self._seen[row] for row in full}


def sync_interval(device: torch.device) -> int:
    """After how many symbols what was drawn is looked at: on a CPU that costs no waiting."""
    return 1 if device.type == "cpu" else SYNC_INTERVAL


def num_truncated(length: int, decoder: Decoder) -> int:
    """How many of the first of `length` symbols a decoder leaves out: none, or all but about its last half window.

    A multiple of the decoder's alignment, so that patches stay where they were.
    """
    if length < decoder.capacity:
        return 0
    excess = length - decoder.capacity // 2
    return min(length, -(-excess // decoder.alignment) * decoder.alignment)


def _uniforms(seeds: Sequence[int], waits: Sequence[int], device: torch.device) -> Iterator[Tensor]:
    """Numbers in [0, 1) for each row at each step, (B,) float64; a row's own begin after it has waited so long."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    waits = list(waits)
    # Apple's accelerator has no float64, so that symbols are drawn on the CPU.
    device = torch.device("cpu") if device.type == "mps" else device
    while True:
        numbers_BN = torch.zeros(len(seeds), UNIFORM_BLOCK, dtype=torch.float64)
        for row, generator in enumerate(generators):
            waited = min(waits[row], UNIFORM_BLOCK)
            waits[row] -= waited
            count = UNIFORM_BLOCK - waited
            numbers_BN[row, waited:] = torch.rand(count, generator=generator, dtype=torch.float64)
        yield from numbers_BN.to(device).unbind(1)


def _finite(logits_BV: Tensor) -> Tensor:
    """The logits. Raises ValueError where there is nothing to draw from."""
    if not bool(logits_BV.isfinite().all()):
        raise ValueError("the model's output is not finite: its training has diverged; take an earlier checkpoint")
    return logits_BV
