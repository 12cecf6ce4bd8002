"""A decoder at a late position without the time of reading a long prefix.

Legend: N sequences, T positions, D width, H heads, E head width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from megabyte_mm.models import ByteModel
from megabyte_mm.models.decoding.caches import LayerCache
from megabyte_mm.models.layers import Stack


@contextmanager
def fake_prefill(model: ByteModel) -> Iterator[None]:
    """Within the block, stacks do not compute a prefix: they fill caches with one random position over and over.

    The time of a step depends on how much the caches hold, not on their values (measured: within 3 %), and reading
    65536 bytes would take a Transformer minutes. Steps are unchanged: the decoder calls no stack's `forward` for them.
    """
    stacks = [part for part in model.modules() if isinstance(part, Stack)]
    for stack in stacks:
        stack.forward = _fill_caches(stack)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for stack in stacks:
            del stack.forward


def _fill_caches(stack: Stack) -> Callable[..., Tensor]:
    heads, width = stack.config.heads, stack.config.dim // stack.config.heads
    random = torch.Generator().manual_seed(0)
    keys_1H1E, values_1H1E = (torch.randn(1, heads, 1, width, generator=random) for _ in range(2))

    def forward(x_NTD: Tensor, caches: Sequence[LayerCache], patches: int | None = None) -> Tensor:
        shape = (len(x_NTD), heads, x_NTD.shape[1], width)
        for cache in caches:
            cache.append(keys_1H1E.to(x_NTD).expand(shape), values_1H1E.to(x_NTD).expand(shape))
        return x_NTD

    return forward
