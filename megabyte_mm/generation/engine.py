"""From a prefix to its continuation, symbol by symbol. It knows decoders, and nothing of what is inside them.

Legend: B rows, T symbols.
"""

from __future__ import annotations

from collections.abc import Iterator

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
) -> Tensor:
    """Continue each row of `prefix` by `length` symbols.

    prefix: (B, t) int64, 0..255, t >= 0; condition: (B,) int64 or None -> (B, t + length) int64: the prefix, then what
    was drawn, END to the end once an END was drawn. The same seed gives the same symbols, whatever the other rows hold.
    """
    sampling = Sampling(temperature, top_k, top_p, allow_end)
    drawn = list(stream(model, prefix, length, sampling, row_seeds(seed, len(prefix)), condition))
    ids_BT = torch.cat([prefix, *(ids_B[:, None] for ids_B in drawn)], dim=1)
    return torch.nn.functional.pad(ids_BT, (0, prefix.shape[1] + length - ids_BT.shape[1]), value=END)


def row_seeds(seed: int, rows: int, first: int = 0) -> list[int]:
    """One seed for each row, so that a sample does not depend on the batch that it was drawn in."""
    return [seed * 1_000_003 + row for row in range(first, first + rows)]


@torch.no_grad()
def stream(
    model: ByteModel,
    prefix_BT: Tensor,
    length: int,
    sampling: Sampling,
    seeds: list[int],
    condition_B: Tensor | None = None,
) -> Iterator[Tensor]:
    """The continuation of `generate` as it comes, (B,) int64 at a time; it stops early once every row has ended.

    Beyond the model's window, the last half window is read again as a fresh context and drawing goes on from there.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    decoder = model.decoder(len(prefix_BT), condition_B)
    seen = list(context(prefix_BT, decoder).unbind(1))
    ended_B = torch.zeros(len(prefix_BT), dtype=torch.bool, device=prefix_BT.device)
    for i in range(length):
        logits_BV = _read(decoder, seen, fresh=i == 0, rows=prefix_BT)
        uniform_B = torch.cat([torch.rand(1, generator=g, dtype=torch.float64) for g in generators])
        ids_B = draw(distribution(logits_BV, sampling), uniform_B.to(logits_BV.device))
        ids_B = ids_B.masked_fill(ended_B, END)
        ended_B |= ids_B == END
        yield ids_B
        seen.append(ids_B)
        if sampling.allow_end and bool(ended_B.all()):
            return


def context(prefix_BT: Tensor, decoder: Decoder) -> Tensor:
    """What the decoder reads of a prefix: all of it, or about the last half window where it leaves no room.

    The cut is a multiple of the decoder's alignment, so that patches stay where they were.
    """
    length = prefix_BT.shape[1]
    if length < decoder.capacity:
        return prefix_BT
    excess = length - decoder.capacity // 2
    return prefix_BT[:, -(-excess // decoder.alignment) * decoder.alignment :]


def _read(decoder: Decoder, seen: list[Tensor], fresh: bool, rows: Tensor) -> Tensor:
    """Logits after everything in `seen`, which is cut down to what the decoder holds."""
    if not fresh and len(seen) < decoder.capacity:
        return decoder.step(seen[-1])
    kept_BT = context(torch.stack(seen, dim=1) if seen else rows[:, :0], decoder)
    seen[:] = kept_BT.unbind(1)
    return decoder.prefill(kept_BT)
