"""Generate a patch of all rows at a time: on a GPU one launch, of a CUDA graph.

Legend: B rows of a batch, P symbols in a patch, V the 257 symbols.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from megabyte_mm.alphabet import END
from megabyte_mm.generation.sampling import SamplingParams, sample
from megabyte_mm.models import PatchDecoder

NO_SYMBOL = -1
"""Marks a row that has no new symbol in a step: it still reads its prefix, or is finished."""


class Replay(Protocol):
    """Operations that were captured, and run again on the same memory."""

    def replay(self) -> None:
        """Run them."""


class PatchProgram:
    """Samples and reads a patch of each row, with all that it needs to know in tensors of its own.

    It runs in Python for the first patch of each view of the caches, which makes tables and compiles what is compiled;
    for the second it is captured. What it needs from Python, such as the present patch of a row, must be in tensors
    then.

    Args:
        decoder: Its caches and those of the program are one.
        logits_BV: As those of each patch, of the rows of a batch.
        sampling: How symbols are sampled.
        capture: One of `CAPTURES`; None to run in Python each time.
    """

    def __init__(
        self,
        decoder: PatchDecoder,
        logits_BV: Tensor,
        sampling: SamplingParams,
        capture: Callable[[Callable[[], None]], Replay] | None,
    ) -> None:
        self.decoder, self._sampling, self._capture = decoder, sampling, capture
        device, size, rows = logits_BV.device, decoder.patch_size, len(logits_BV)
        self.uniform_PB = torch.zeros(size, rows, dtype=torch.float64, device=device)
        """A random number for each symbol."""
        self.forced_PB = torch.full((size, rows), NO_SYMBOL, device=device)
        """Symbols of the prefixes that are read in place of sampled ones."""
        self.left_B = torch.zeros(rows, dtype=torch.long, device=device)
        """Symbols that are left to read for each row until it is finished."""
        self.finished_B = torch.zeros(rows, dtype=torch.bool, device=device)
        self.logits_BV = torch.zeros_like(logits_BV)
        """Of the first symbol of the next patch."""
        self._symbols_2PB = torch.zeros(2, size, rows, dtype=torch.long, device=device)
        self._replays: dict[int, Replay | None] = {}

    def run(self, logits_BV: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the symbols that a patch reads of each row, and its new symbols or NO_SYMBOL: (P, B) each.

        logits: of the first symbol; None for those of the patch before.
        """
        if logits_BV is not None:
            self.logits_BV.copy_(logits_BV)
        self.decoder.begin_patch()
        self._program(self.decoder.view)()
        self.decoder.count_patch()
        read_PB, new_PB = self._symbols_2PB.clone()
        return read_PB, new_PB

    def _program(self, view: int) -> Callable[[], None]:
        """What runs the next patch."""
        in_python = partial(self._patch, view)
        if view not in self._replays:
            self._replays[view] = None
            return in_python
        if self._replays[view] is None and self._capture is not None:
            try:
                self._replays[view] = self._capture(in_python)
            except RuntimeError as error:
                reason = str(error).partition("\n")[0]
                warnings.warn(f"patches are generated without a CUDA graph: {reason}", stacklevel=2)
                self._capture = None
        replay = self._replays[view]
        return in_python if replay is None else replay.replay

    @torch.no_grad()
    def _patch(self, view: int) -> None:
        self.logits_BV.copy_(self.decoder.read_patch(self.logits_BV, self._choose, view))
        self.left_B -= len(self.forced_PB)

    def _choose(self, position: int, logits_BV: Tensor) -> Tensor:
        sampled_B = sample(logits_BV, self.uniform_PB[position], self._sampling)
        read_B, new_B = next_symbols(sampled_B, self.forced_PB[position], self.finished_B)
        self._symbols_2PB[0, position], self._symbols_2PB[1, position] = read_B, new_B
        self.finished_B |= self.left_B == position + 1
        if self._sampling.allow_end:
            self.finished_B |= new_B == END
        return read_B


def next_symbols(sampled_B: Tensor, forced_B: Tensor | None, finished_B: Tensor | None) -> tuple[Tensor, Tensor]:
    """The symbol that each row reads next, and its new symbol or NO_SYMBOL: (B,) each.

    forced: symbols that are read in place of the sampled ones, NO_SYMBOL for none. finished: (B,) bool, rows that read
    END. None for rows that are all not forced, or not finished.
    """
    read_B = new_B = sampled_B
    if forced_B is not None:
        is_forced_B = forced_B != NO_SYMBOL
        read_B = torch.where(is_forced_B, forced_B, sampled_B)
        new_B = sampled_B.masked_fill(is_forced_B, NO_SYMBOL)
    if finished_B is not None:
        read_B = read_B.masked_fill(finished_B, END)
        new_B = new_B.masked_fill(finished_B, NO_SYMBOL)
    return read_B, new_B


def captured(run: Callable[[], None]) -> Replay:
    """Capture the operations of a function, without running them, as a CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph


CAPTURES: dict[str, Callable[[Callable[[], None]], Replay]] = {"cuda": captured}
"""How operations are captured, by the kind of device."""
