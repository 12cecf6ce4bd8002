"""Generate a patch of all rows at a time: on a GPU one launch, of a CUDA graph.

Legend: B rows of a batch, P symbols in the largest patch, p symbols in the open ones, V the 257 symbols.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, partial
from threading import Lock
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from megabyte_mm.alphabet import END, SYMBOLS
from megabyte_mm.generation.sampling import SamplingParams, sample
from megabyte_mm.models import PatchDecoder
from megabyte_mm.models.decoding.fused import runs_kernels
from megabyte_mm.models.kernels.support import agree

NO_SYMBOL = -1
"""Marks a row that has no new symbol in a step: it still reads its prefix, or is finished."""


class Replay(Protocol):
    """Operations that were captured, and run again on the same memory."""

    def replay(self) -> None:
        """Run them."""


Capture = Callable[[Callable[[], None], torch.device], Replay]
"""Runs a function, then captures the operations without running them again. Raises RuntimeError if it cannot."""


class PatchProgram:
    """Samples and reads a patch of each row, with all that this needs in static tensors.

    A patch of a new size, or with more cached patches to look at, runs in Python once and is captured then. What it
    needs from Python, such as the present patch of a row, must be in tensors. Caches and positions are the decoder's:
    a program serves one decoder alone.

    Args:
        logits_BV: As those of each patch, of the rows of a batch.
        size: P.
        sampling: How symbols are sampled.
    """

    def __init__(self, logits_BV: Tensor, size: int, sampling: SamplingParams) -> None:
        device, rows = logits_BV.device, len(logits_BV)
        self._sampling = sampling
        self.left_B = torch.zeros(rows, dtype=torch.long, device=device)
        """Symbols that are left to read for each row until it is finished."""
        self.finished_B = torch.zeros(rows, dtype=torch.bool, device=device)
        self.logits_BV = torch.zeros_like(logits_BV)
        """Of the first symbol of the next patch."""
        self._uniform_PB = torch.zeros(size, rows, dtype=torch.float64, device=device)
        self._forced_PB = torch.full((size, rows), NO_SYMBOL, device=device)
        self._any_forced = False
        self._symbols_2PB = torch.zeros(2, size, rows, dtype=torch.long, device=device)
        """The symbols that a patch read, and the new ones among them."""
        self._temperature_1: Tensor | None = None
        """Of the kernel that samples, where it does."""
        sorts = sampling.top_k is not None or sampling.top_p is not None
        if sampling.temperature > 0.0 and not sorts and runs_kernels(logits_BV) and _kernel_agrees(device):
            self._temperature_1 = torch.full((1,), sampling.temperature, dtype=torch.float64, device=device)
        self._capture = None if device in _UNCAPTURED else CAPTURES.get(device.type)
        self._replays: dict[tuple[int, int], Replay] = {}
        """By the size of the patch and the number of viewed patches."""

    def run(
        self, decoder: PatchDecoder, logits_BV: Tensor | None, uniform_pB: Tensor, forced_pB: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the symbols that a patch reads of each row, and the new ones or NO_SYMBOL: (p, B) each.

        logits: of the first symbol; None for those of the patch before. uniform: random numbers. forced: symbols of the
        prefixes that are read in place of sampled ones; as many as there are, NO_SYMBOL for none.
        """
        size = decoder.patch_size
        if logits_BV is not None:
            self.logits_BV.copy_(logits_BV)
        self._uniform_PB[:size].copy_(uniform_pB)
        if forced_pB is not None or self._any_forced:
            self._forced_PB.fill_(NO_SYMBOL)
        if forced_pB is not None:
            self._forced_PB[: len(forced_pB)] = forced_pB
        self._any_forced = forced_pB is not None
        decoder.begin_patch()
        self._run(decoder, size, decoder.num_viewed)
        decoder.count_patch()
        read_pB, new_pB = self._symbols_2PB[:, :size].clone()
        return read_pB, new_pB

    def _run(self, decoder: PatchDecoder, size: int, num_viewed: int) -> None:
        patch = partial(self._patch, decoder, size, num_viewed)
        key = size, num_viewed
        if key in self._replays:
            self._replays[key].replay()
        elif self._capture is None:
            patch()
        else:
            try:
                self._replays[key] = self._capture(patch, self.logits_BV.device)
            except CaptureError as error:
                warnings.warn(f"patches are generated without a CUDA graph: {error}", stacklevel=1)
                self._capture = None
                _UNCAPTURED.add(self.logits_BV.device)

    @torch.no_grad()
    def _patch(self, decoder: PatchDecoder, size: int, num_viewed: int) -> None:
        # A caller's autocast would keep casts of weights for as long as it lasts, and a graph would read them later.
        with torch.autocast(self.logits_BV.device.type, enabled=False):
            self._read_patch(decoder, size, num_viewed)

    def _read_patch(self, decoder: PatchDecoder, size: int, num_viewed: int) -> None:
        self.logits_BV.copy_(decoder.read_patch(self.logits_BV, self._choose, num_viewed))
        self.left_B -= size

    def _choose(self, position: int, logits_BV: Tensor) -> Tensor:
        uniform_B, forced_B = self._uniform_PB[position], self._forced_PB[position]
        if self._temperature_1 is not None:
            from megabyte_mm.generation.sampling_kernel import choose  # needs Triton

            read_B: Tensor = self._symbols_2PB[0, position]
            choose(
                logits_BV.contiguous(),
                self._temperature_1,
                uniform_B,
                forced_B,
                self.left_B,
                self.finished_B,
                read_B,
                self._symbols_2PB[1, position],
                position,
                self._sampling.allow_end,
            )
            return read_B
        read_B, new_B = next_symbols(sample(logits_BV, uniform_B, self._sampling), forced_B, self.finished_B)
        self._symbols_2PB[0, position], self._symbols_2PB[1, position] = read_B, new_B
        self.finished_B |= self.left_B == position + 1
        if self._sampling.allow_end:
            self.finished_B |= new_B == END
        return read_B


@cache
def _kernel_agrees(device: torch.device) -> bool:
    """Compare the symbols of the kernel that samples with those of `sample`, once in a process."""
    return agree(partial(_compare_kernel, device), "sampling", device)


def _compare_kernel(device: torch.device) -> None:
    from megabyte_mm.generation.sampling_kernel import choose

    generator = torch.Generator().manual_seed(0)
    rows, position = 64, 2
    logits_BV = (4 * torch.randn(rows, SYMBOLS, generator=generator)).to(device)
    uniform_B = torch.rand(rows, dtype=torch.float64, generator=generator).to(device)
    number_B = torch.arange(rows, device=device)
    forced_B = torch.where(number_B % 3 == 0, number_B, NO_SYMBOL)
    for sampling in (SamplingParams(0.8), SamplingParams(0.8, allow_end=False)):
        wanted_2B = next_symbols(sample(logits_BV, uniform_B, sampling), forced_B, number_B % 5 == 0)
        ended_B = (number_B % 5 == 0) | (number_B % 7 == position + 1)
        ended_B |= (wanted_2B[1] == END) & sampling.allow_end
        read_B, new_B, finished_B = torch.zeros_like(number_B), torch.zeros_like(number_B), number_B % 5 == 0
        temperature_1 = torch.full((1,), sampling.temperature, dtype=torch.float64, device=device)
        choose(
            logits_BV,
            temperature_1,
            uniform_B,
            forced_B,
            number_B % 7,
            finished_B,
            read_B,
            new_B,
            position,
            sampling.allow_end,
        )
        torch.testing.assert_close((read_B, new_B, finished_B), (*wanted_2B, ended_B))


_PROGRAMS: WeakKeyDictionary[PatchDecoder, dict[tuple[int, SamplingParams], PatchProgram]] = WeakKeyDictionary()
"""Those of each decoder, for its next batch; a graph is freed with its decoder."""


def patch_program(decoder: PatchDecoder, logits_BV: Tensor, sampling: SamplingParams) -> PatchProgram:
    """What generates whole patches with this decoder, behind such logits."""
    programs = _PROGRAMS.setdefault(decoder, {})
    key = len(logits_BV), sampling
    if key not in programs:
        programs[key] = PatchProgram(logits_BV, decoder.max_patch_size, sampling)
    return programs[key]


def next_symbols(sampled_B: Tensor, forced_B: Tensor | None, finished_B: Tensor | None) -> tuple[Tensor, Tensor]:
    """The symbol that each row reads next, and the new symbol or NO_SYMBOL: (B,) each.

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


class CaptureError(RuntimeError):
    """Operations ran, and could not be captured."""


def captured(run: Callable[[], None], device: torch.device) -> Replay:
    """Run a function, and capture the operations as a CUDA graph. Raises CaptureError if they cannot be captured.

    Both happen on one stream and in one thread, so that libraries have made what they keep for these before the
    capture.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    with torch.cuda.device(device):
        before = torch.cuda.current_stream()
        stream.wait_stream(before)
        try:
            with torch.cuda.stream(stream):
                run()
        finally:
            before.wait_stream(stream)
        try:
            # Other threads, such as one that pins memory for training, may use the GPU meanwhile. A failure leaves
            # the stream of the capture current, unless the former one is restored from outside.
            with (
                _CAPTURING,
                torch.cuda.stream(before),
                torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"),
            ):
                run()
        except RuntimeError as error:
            _FAILED.append(graph)
            raise CaptureError(str(error.__context__ or error).partition("\n")[0]) from error
    return graph


_CAPTURING = Lock()
"""Beginning a capture waits for the whole GPU, which another capture does not allow."""
_UNCAPTURED: set[torch.device] = set()
"""Devices on which a capture failed: none is tried there again."""
_FAILED: list[Replay] = []
"""Graphs whose capture failed, which torch's allocator may still ask."""

CAPTURES: dict[str, Capture] = {"cuda": captured}
"""How operations are captured, by the kind of device."""
