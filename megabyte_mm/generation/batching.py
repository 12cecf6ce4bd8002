"""Many prefixes of many lengths, continued in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from megabyte_mm.alphabet import END, to_ids
from megabyte_mm.generation.engine import NO_SYMBOL, generate_rows, make_decoder, row_seeds, sync_interval
from megabyte_mm.generation.sampling import SamplingParams
from megabyte_mm.models import DEFAULT_EXECUTION, ByteModel, Decoder, Execution

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class GenerationRequest:
    """Continue `prefix` (t,) uint8 by `length` bytes, or fewer where the stream ends before, `count` times."""

    prefix: Bytes
    length: int
    count: int = 1
    condition: int = 0


@dataclass(frozen=True)
class _Row:
    request: int
    number: int
    seed: int


class GenerationInterrupted(KeyboardInterrupt):
    """Ctrl-C while drawing; `results` is what was drawn until then, as `generate_batch` would give it."""

    def __init__(self, results: list[list[Bytes]]) -> None:
        super().__init__()
        self.results = results


def generate_batch(
    model: ByteModel,
    requests: Sequence[GenerationRequest],
    sampling: SamplingParams,
    seed: int = 0,
    batch_size: int = 64,
    on_bytes: Callable[[int], object] = lambda count: None,
    window: int | None = None,
    execution: Execution = DEFAULT_EXECUTION,
    watch: Callable[[Bytes], object] = lambda new: None,
) -> list[list[Bytes]]:
    """Every request's continuations, each the prefix and what was drawn up to an END: uint8 arrays of their own length.

    Each row has its own seed, by its number within its request, and what it draws does not depend on what else is asked
    for. on_bytes is told how many bytes were drawn since it was told last, and watch what the first request's first row
    has drawn. window: as for `generate`. Raises GenerationInterrupted on Ctrl-C.
    """
    device = next(model.parameters()).device
    rows = _rows(requests, seed)
    results = [[request.prefix for _ in range(request.count)] for request in requests]
    if not rows:
        return results
    decoder = make_decoder(model, min(batch_size, len(rows)), window, execution)
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        parts: list[NDArray[np.int64]] = []
        try:
            for part_BT in _drawn(decoder, [requests[row.request] for row in batch], batch, sampling, device):
                parts.append(part_BT)
                on_bytes(int(((part_BT != NO_SYMBOL) & (part_BT != END)).sum()))
                for row, drawn_T in zip(batch, part_BT, strict=True):
                    if (row.request, row.number) == (0, 0):
                        watch(_bytes_in(drawn_T))
            _keep(results, requests, batch, parts)
        except KeyboardInterrupt:
            _keep(results, requests, batch, parts)
            raise GenerationInterrupted(results) from None
    return results


def _drawn(
    decoder: Decoder,
    requests: Sequence[GenerationRequest],
    rows: Sequence[_Row],
    sampling: SamplingParams,
    device: torch.device,
) -> Iterator[NDArray[np.int64]]:
    """What a batch draws, some columns at a time: (B, t)."""
    prefixes = [to_ids(request.prefix).to(device) for request in requests]
    condition_B = torch.tensor([request.condition for request in requests], device=device)
    lengths, seeds = [request.length for request in requests], [row.seed for row in rows]
    columns = generate_rows(decoder, prefixes, lengths, sampling, seeds, condition_B)
    return _gathered(columns, sync_interval(device))


def _gathered(columns: Iterator[Tensor], at_once: int) -> Iterator[NDArray[np.int64]]:
    """So many columns at a time, (B,) each, are fetched from their device: (B, t)."""
    while found := list(islice(columns, at_once)):
        yield torch.stack(found, dim=1).cpu().numpy()


def _keep(
    results: list[list[Bytes]],
    requests: Sequence[GenerationRequest],
    batch: Sequence[_Row],
    parts: Sequence[NDArray[np.int64]],
) -> None:
    """Put behind each row's prefix what was drawn for it."""
    if parts:
        for row, drawn_T in zip(batch, np.concatenate(parts, axis=1), strict=True):
            whole = [requests[row.request].prefix, _bytes_in(drawn_T)]
            results[row.request][row.number] = np.concatenate(whole)


def _bytes_in(ids_T: NDArray[np.int64]) -> Bytes:
    found: Bytes = ids_T[(ids_T != NO_SYMBOL) & (ids_T != END)].astype(np.uint8)
    return found


def _rows(requests: Sequence[GenerationRequest], seed: int) -> list[_Row]:
    """A row for each continuation; rows that draw about as much stand together, so that none waits long for another."""
    rows: list[_Row] = []
    for index, request in enumerate(requests):
        # By its number among its own, so that a prefix is continued alike whatever else is asked for.
        seeds = row_seeds(seed, request.count)
        rows += [_Row(index, number, row_seed) for number, row_seed in enumerate(seeds)]
    return sorted(rows, key=lambda row: (requests[row.request].length, len(requests[row.request].prefix)))
