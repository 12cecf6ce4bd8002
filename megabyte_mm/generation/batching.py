"""Many prefixes of many lengths, continued in batches of equal length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from megabyte_mm.alphabet import END, to_bytes, to_ids
from megabyte_mm.generation.engine import row_seeds, stream
from megabyte_mm.generation.sampling import Sampling
from megabyte_mm.models import ByteModel

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Request:
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


def continue_all(
    model: ByteModel,
    requests: Sequence[Request],
    sampling: Sampling,
    seed: int = 0,
    batch_size: int = 64,
    on_bytes: Callable[[int], object] = lambda count: None,
    window: int | None = None,
) -> list[list[Bytes]]:
    """Every request's continuations, each the prefix and what was drawn up to an END: uint8 arrays of their own length.

    Rows of equal prefix length share a batch, and each has its own seed: how they are batched does not change them, but
    for rounding. on_bytes is told, after each step, how many bytes were drawn. window: as for `generate`.
    """
    device = next(model.parameters()).device
    results: list[list[Bytes]] = [[np.empty(0, np.uint8)] * request.count for request in requests]
    for rows in _batches(requests, seed, batch_size):
        chosen = [requests[row.request] for row in rows]
        prefix_BT = torch.stack([to_ids(request.prefix) for request in chosen]).to(device)
        condition_B = torch.tensor([request.condition for request in chosen], device=device)
        seeds = [row.seed for row in rows]
        columns = [prefix_BT]
        for ids_B in stream(model, prefix_BT, chosen[0].length, sampling, seeds, condition_B, window):
            columns.append(ids_B[:, None])
            on_bytes(int((ids_B != END).sum()))
        for row, ids_T in zip(rows, torch.cat(columns, dim=1), strict=True):
            results[row.request][row.number] = to_bytes(ids_T)
    return results


def _batches(requests: Sequence[Request], seed: int, batch_size: int) -> Iterator[list[_Row]]:
    groups: dict[tuple[int, int], list[_Row]] = defaultdict(list)
    first = 0
    for index, request in enumerate(requests):
        seeds = row_seeds(seed, request.count, first)
        first += request.count
        rows = [_Row(index, number, row_seed) for number, row_seed in enumerate(seeds)]
        groups[len(request.prefix), request.length] += rows
    for rows in groups.values():
        yield from (rows[start : start + batch_size] for start in range(0, len(rows), batch_size))
