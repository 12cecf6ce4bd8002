"""From a prefix to its continuation, symbol by symbol. It knows decoders, and nothing of what is inside them.

Legend: B rows, T symbols.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from megabyte_mm.alphabet import END
from megabyte_mm.generation.sampling import Sampling, distribution, draw
from megabyte_mm.models import ByteModel, Decoder


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
) -> Tensor:
    """Continue each row of `prefix` by `length` symbols.

    prefix: (B, t) int64, 0..255, t >= 0; condition: (B,) int64 or None -> (B, t + length) int64: the prefix, then what
    was drawn, END to the end once an END was drawn. The same seed gives the same symbols, whatever the other rows hold;
    dropout rests meanwhile. window: how many symbols the model has in sight at most, by default as many as in training;
    more take rotary positions.
    Raises ValueError for settings outside their range, and for a model whose output is not finite.
    """
    if length < 0:
        raise ValueError(f"length is {length}; it must be at least 0")
    sampling = Sampling(temperature, top_k, top_p, allow_end)
    with _evaluating(model):
        drawn = list(stream(model, prefix, length, sampling, row_seeds(seed, len(prefix)), condition, window))
    ids_BT = torch.cat([prefix, *(ids_B[:, None] for ids_B in drawn)], dim=1)
    return torch.nn.functional.pad(ids_BT, (0, prefix.shape[1] + length - ids_BT.shape[1]), value=END)


@contextmanager
def _evaluating(model: ByteModel) -> Iterator[None]:
    """The model in eval mode, and then each of its modules back in its own."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def row_seeds(seed: int, rows: int, first: int = 0) -> list[int]:
    """One seed for each row, so that a sample does not depend on the batch that it was drawn in."""
    return [(seed * 1_000_003 + row) % 2**63 for row in range(first, first + rows)]


@torch.no_grad()
def stream(
    model: ByteModel,
    prefix_BT: Tensor,
    length: int,
    sampling: Sampling,
    seeds: list[int],
    condition_B: Tensor | None = None,
    window: int | None = None,
) -> Iterator[Tensor]:
    """The continuation of `generate` as it comes, (B,) int64 at a time; it stops early once every row has ended.

    Beyond the window, its last half is read again as a fresh context and drawing goes on from there.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    decoder = model.decoder(len(prefix_BT), condition_B, window)
    seen_BT = prefix_BT[:, unseen(prefix_BT.shape[1], decoder) :]
    logits_BV = _finite(decoder.prefill(seen_BT))
    seen = list(seen_BT.unbind(1))
    ended_B = torch.zeros(len(prefix_BT), dtype=torch.bool, device=prefix_BT.device)
    for left in reversed(range(length)):
        uniform_B = torch.cat([torch.rand(1, generator=g, dtype=torch.float64) for g in generators])
        ids_B = _draw(logits_BV, uniform_B, sampling).masked_fill(ended_B, END)
        ended_B |= ids_B == END
        yield ids_B
        if left == 0 or (sampling.allow_end and bool(ended_B.all())):
            return
        seen.append(ids_B)
        if len(seen) < decoder.capacity:
            logits_BV = decoder.step(ids_B)
        else:
            del seen[: unseen(len(seen), decoder)]
            logits_BV = decoder.prefill(torch.stack(seen, dim=1) if seen else prefix_BT[:, :0])


def unseen(length: int, decoder: Decoder) -> int:
    """How many of the first of `length` symbols a decoder leaves out: none, or all but about its last half window.

    A multiple of the decoder's alignment, so that patches stay where they were.
    """
    if length < decoder.capacity:
        return 0
    excess = length - decoder.capacity // 2
    return min(length, -(-excess // decoder.alignment) * decoder.alignment)


def _draw(logits_BV: Tensor, uniform_B: Tensor, sampling: Sampling) -> Tensor:
    """One symbol for each row, on the device of the logits."""
    # Apple's accelerator has no float64.
    exact_BV = logits_BV.cpu() if logits_BV.device.type == "mps" else logits_BV
    ids_B = draw(distribution(exact_BV, sampling), uniform_B.to(exact_BV.device))
    return ids_B.to(logits_BV.device)


def _finite(logits_BV: Tensor) -> Tensor:
    """The logits. Raises ValueError where there is nothing to draw from."""
    if not bool(logits_BV.isfinite().all()):
        raise ValueError("the model's output is not finite: its training has diverged; take an earlier checkpoint")
    return logits_BV
