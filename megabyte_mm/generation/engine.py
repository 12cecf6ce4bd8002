"""Continue prefixes symbol by symbol: prefill a decoder, then sample and step until all rows are finished.

Legend: B rows of a batch, T symbols, V the 257 symbols, W steps in which some row still reads its prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from megabyte_mm.alphabet import END
from megabyte_mm.errors import DIVERGED
from megabyte_mm.generation.patches import NO_SYMBOL, PatchProgram, next_symbols, patch_program
from megabyte_mm.generation.sampling import SamplingParams, sample
from megabyte_mm.models import (
    DEFAULT_EXECUTION,
    Backend,
    ByteModel,
    Decoder,
    Execution,
    PatchDecoder,
    Precision,
    with_rounded_weights,
)
from megabyte_mm.models.transfer import numbers_to_device, to_device

UNIFORM_BLOCK = 256
"""Random numbers of each row that are generated and moved to the device at once."""
SYNC_INTERVAL = 16
"""Steps between two waits for an accelerator, to see which rows have ended: at least so many, and two patches."""


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

    prefix: (B, t) int64, 0..255, t >= 0; condition: (B,) int64 or None -> (B, t + length) int64: the prefix and the
    sampled symbols; after a sampled END the rest of the row is END. The same seed gives the same symbols, whatever the
    other rows hold; dropout is off. window: symbols in the model's context at most, by default as many as in training;
    only rotary positions take more. backend, precision: see `Execution`. stream: called with each (B,) int64 of new
    symbols. Raises ValueError for arguments outside their range, and for a model whose output is not finite.
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
    """One seed for each row, so that a sample does not depend on the batch that it is generated in."""
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
    """Yield the continuation of `generate` as it is sampled, (B,) int64 at a time, until all rows have ended."""
    if not length or not len(prefix_BT):
        return
    decoder = make_decoder(model, len(prefix_BT), window, execution, condition_B)
    prefixes = list(prefix_BT.unbind(0))
    for ids_tB in generate_rows(decoder, prefixes, [length] * len(prefixes), sampling, seeds):
        yield from ids_tB.masked_fill(ids_tB == NO_SYMBOL, END)


def make_decoder(
    model: ByteModel, rows: int, window: int | None, execution: Execution, condition_B: Tensor | None = None
) -> Decoder:
    """Return a decoder of `rows` rows; for a lower precision, that of a copy of the model with rounded weights.

    Raises ValueError for a window smaller than a patch, since truncation would move rows to other positions in a patch.
    """
    if window is not None and window < model.patch_size:
        raise ValueError(f"window is {window}; it must hold at least a patch, {model.patch_size} symbols")
    if execution.precision is not None:
        model = with_rounded_weights(model, execution.precision, model.tied_embeddings)
    return model.decoder(rows, condition_B, window, execution)


def generate_rows(
    decoder: Decoder,
    prefixes: Sequence[Tensor],
    lengths: Sequence[int],
    sampling: SamplingParams,
    seeds: Sequence[int],
    condition_B: Tensor | None = None,
) -> Iterator[Tensor]:
    """Yield the new symbols of each row, (t, B) int64 of t steps, until row b has `lengths[b]` of them or its END.

    A prefix is prefilled as far as the decoder can do so in parallel; the rest is forced, a symbol a step, while other
    rows sample already. NO_SYMBOL marks a row that is forced or finished. A row whose window is full starts a new
    context with the last half of it.
    """
    if condition_B is not None:
        decoder.set_conditions(condition_B)
    contexts = [ids_T[num_truncated(len(ids_T), decoder, row) :] for row, ids_T in enumerate(prefixes)]
    logits_BV = _check_finite(decoder.prefill_rows(contexts, condition_B))
    program = None
    if isinstance(decoder, PatchDecoder) and decoder.reads_patches:
        program = patch_program(decoder, logits_BV, sampling)
    state = BatchState(decoder, contexts, lengths, None if program is None else program.finished_B)
    uniforms = Uniforms(seeds, state.num_forced, logits_BV.device)
    while not state.done:
        if program is not None and isinstance(decoder, PatchDecoder) and decoder.has_patch():
            yield state.run_patch(decoder, program, logits_BV, uniforms, sampling.allow_end)
            logits_BV = program.logits_BV
            continue
        ids_B, [uniform_B] = state.next_forced(), uniforms.take(1)
        if ids_B is None:
            ids_B, new_B = state.advance(sample(logits_BV, uniform_B, sampling), sampling.allow_end)
            yield new_B[None]
        if not state.done:
            logits_BV = decoder.step(ids_B, state.new_contexts())


def fetch(blocks: Iterator[Tensor], interval: int) -> Iterator[NDArray[np.int64]]:
    """Yield the symbols of `generate_rows` on the CPU, (B, t) at a time, of at least so many steps but at the end."""
    waiting: list[Tensor] = []
    for ids_tB in blocks:
        waiting.append(ids_tB)
        if sum(map(len, waiting)) >= interval:
            yield torch.cat(waiting).T.cpu().numpy()
            waiting = []
    if waiting:
        yield torch.cat(waiting).T.cpu().numpy()


class BatchState:
    """Progress of the rows of a batch: what each still has to read, and which are finished.

    Args:
        decoder: It has read the first `decoder.lengths` symbols of each row.
        prefixes: The whole prefix of each row, truncated to the window.
        lengths: Symbols to generate for each row.
        finished: Where finished rows are marked, (B,) bool; by default in a new tensor.
    """

    def __init__(
        self,
        decoder: Decoder,
        prefixes: Sequence[Tensor],
        lengths: Sequence[int],
        finished_B: Tensor | None = None,
    ) -> None:
        assert decoder.lengths is not None
        prefilled = decoder.lengths
        self._decoder = decoder
        self.num_forced = [len(ids_T) - length for ids_T, length in zip(prefixes, prefilled, strict=True)]
        """Symbols of each prefix that are read one a step."""
        self._contexts = [ids_T[:length] for ids_T, length in zip(prefixes, prefilled, strict=True)]
        """The symbols that each row read before the first of `_columns`."""
        self._columns: list[Tensor] = []
        device = prefixes[0].device
        self._forced_BW = torch.full((len(prefixes), max(self.num_forced)), NO_SYMBOL, device=device)
        for row, (ids_T, count) in enumerate(zip(prefixes, self.num_forced, strict=True)):
            self._forced_BW[row, :count] = ids_T[len(ids_T) - count :]
        self._last_step = [count + length - 1 for count, length in zip(self.num_forced, lengths, strict=True)]
        empty_B = numbers_to_device([length < 1 for length in lengths], device)
        self._finished_B = empty_B if finished_B is None else finished_B.copy_(empty_B)
        self._any_finished = min(lengths) < 1
        self._active = {row for row, length in enumerate(lengths) if length > 0}
        for row in set(range(len(lengths))) - self._active:
            decoder.finish_row(row)
        self._step = 0
        self._interval = sync_interval(decoder)
        self._patch_end: int | None = None
        """The step behind the last patch that was read whole."""

    @property
    def done(self) -> bool:
        """True once all rows are finished."""
        return not self._active

    def next_forced(self) -> Tensor | None:
        """Return the next symbol of every prefix, (B,), or None once a row has none left and samples."""
        if self._step >= min(self.num_forced):
            return None
        ids_B = self._forced_BW[:, self._step]
        self._columns.append(ids_B)
        self._step += 1
        return ids_B

    def advance(self, sampled_B: Tensor, allow_end: bool) -> tuple[Tensor, Tensor]:
        """Return the symbol that each row reads next, forced or sampled, and its new symbol or NO_SYMBOL: (B,) each."""
        step = self._step
        forced_B = self._forced_BW[:, step] if step < self._forced_BW.shape[1] else None
        ids_B, new_B = next_symbols(sampled_B, forced_B, self._finished_B if self._any_finished else None)
        self._columns.append(ids_B)
        if allow_end:
            self._finished_B |= new_B == END
        self._any_finished |= allow_end
        for row in self._count(1):
            self._finished_B[row] = self._any_finished = True
        if allow_end:
            self._finish_ended(1)
        return ids_B, new_B

    def run_patch(
        self, decoder: PatchDecoder, program: PatchProgram, logits_BV: Tensor, uniforms: Uniforms, allow_end: bool
    ) -> Tensor:
        """Advance by a patch, and return the new symbols of the steps or NO_SYMBOL: (t, B).

        t is the patch size less the steps in which all rows are forced, and those behind the last symbol of all rows.
        """
        size, begin, goes_on = decoder.patch_size, self._step, self._patch_end == self._step
        forced_pB = self._forced_BW[:, begin : begin + size].T if begin < self._forced_BW.shape[1] else None
        if not goes_on:
            left = [step + 1 - begin for step in self._last_step]
            program.left_B.copy_(numbers_to_device(left, program.left_B.device))
        read_pB, new_pB = program.run(decoder, None if goes_on else logits_BV, uniforms.take(size), forced_pB)
        self._columns.extend(read_pB)
        self._count(size)
        self._any_finished, self._patch_end = True, self._step
        if allow_end:
            self._finish_ended(size)
        return new_pB[max(min(self.num_forced) - begin, 0) : max(self._last_step) + 1 - begin]

    def _count(self, steps: int) -> list[int]:
        """Count steps, and return the rows that have read their last symbol in them."""
        self._step += steps
        finished = [row for row in self._active if self._last_step[row] < self._step]
        for row in finished:
            self._finish(row)
        return finished

    def _finish_ended(self, steps: int) -> None:
        """Look for rows that have read END, where the last so many steps ended an interval."""
        if self._step % self._interval < steps:
            for row, finished in enumerate(self._finished_B.tolist()):
                if finished:
                    self._finish(row)

    def _finish(self, row: int) -> None:
        if row in self._active:
            self._active.remove(row)
            self._decoder.finish_row(row)

    def new_contexts(self) -> dict[int, Tensor]:
        """Return, for each row whose window is full, the symbols that it starts again with, the newest last."""
        lengths = self._decoder.lengths
        assert lengths is not None
        full = [row for row in self._active if lengths[row] + 1 >= self._decoder.capacity_of(row)]
        if not full:
            return {}
        read_BT = torch.stack(self._columns, dim=1)
        self._contexts = [torch.cat([ids_T, new_T]) for ids_T, new_T in zip(self._contexts, read_BT, strict=True)]
        self._columns = []
        for row in full:
            self._contexts[row] = self._contexts[row][num_truncated(len(self._contexts[row]), self._decoder, row) :]
        return {row: self._contexts[row] for row in full}


def sync_interval(decoder: Decoder) -> int:
    """Steps after which sampled symbols are fetched from the device; a CPU is never waited for."""
    if decoder.conditions.device.type == "cpu":
        return 1
    return max(SYNC_INTERVAL, 2 * decoder.max_patch_size) if isinstance(decoder, PatchDecoder) else SYNC_INTERVAL


def num_truncated(length: int, decoder: Decoder, row: int = 0) -> int:
    """Return how many of a row's `length` symbols a decoder drops from the front: none, or all but about half of them.

    A multiple of the row's alignment, so that each symbol keeps its position in the patch.
    """
    capacity, alignment = decoder.capacity_of(row), decoder.alignment_of(row)
    if length < capacity:
        return 0
    excess = length - capacity // 2
    return min(length, -(-excess // alignment) * alignment)


class Uniforms:
    """Uniform numbers in [0, 1) of each row, in float64; a row's sequence begins after its forced steps."""

    def __init__(self, seeds: Sequence[int], num_forced: Sequence[int], device: torch.device) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._forced = list(num_forced)
        # Apple's accelerator has no float64, so that symbols are sampled on the CPU.
        self._device = torch.device("cpu") if device.type == "mps" else device
        self._block_NB = self._block()

    def take(self, steps: int) -> Tensor:
        """The numbers of the next steps: (steps, B)."""
        while len(self._block_NB) < steps:
            self._block_NB = torch.cat([self._block_NB, self._block()])
        taken_NB, self._block_NB = self._block_NB[:steps], self._block_NB[steps:]
        return taken_NB

    def _block(self) -> Tensor:
        numbers_NB = torch.zeros(UNIFORM_BLOCK, len(self._generators), dtype=torch.float64)
        for row, generator in enumerate(self._generators):
            skipped = min(self._forced[row], UNIFORM_BLOCK)
            self._forced[row] -= skipped
            numbers_NB[skipped:, row] = torch.rand(UNIFORM_BLOCK - skipped, generator=generator, dtype=torch.float64)
        return to_device(numbers_NB, self._device)


def _check_finite(logits_BV: Tensor) -> Tensor:
    """Return the logits. Raises ValueError where one is not finite."""
    if not bool(logits_BV.isfinite().all()):
        raise ValueError(DIVERGED)
    return logits_BV
