"""PerceiverAR symbol by symbol: keys of every position, and latents that begin anew after half of their number.

Legend: B rows, T symbols, S positions read so far, M latents, D model width, H heads, E head width, V the 257 symbols.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from megabyte_mm.models.base import Decoder, evaluating
from megabyte_mm.models.cache import LayerCache
from megabyte_mm.models.execution import Execution

if TYPE_CHECKING:
    from megabyte_mm.models.perceiver_ar import PerceiverAR


class PerceiverARDecoder(Decoder):
    """Rows one by one: their latents begin anew at different times."""

    def __init__(self, model: PerceiverAR, condition_B: Tensor, capacity: int, execution: Execution) -> None:
        if execution.backend in ("native", "compile") or execution.precision:
            raise ValueError("PerceiverAR has eager steps alone, with its weights as they are")
        self.capacity = capacity
        self.alignment = model.stride if model.stride < capacity else 1  # a lone stretch may begin anywhere
        self._model, self.conditions = model, condition_B
        self._rows = [_Row(model, capacity) for _ in condition_B]

    def start(self, prefixes: Sequence[Tensor], condition_B: Tensor | None = None) -> Tensor:
        self.begin(prefixes, condition_B)
        with evaluating(self._model):
            return torch.cat(
                [self._rows[i].read(ids_T[None], self.conditions[i : i + 1]) for i, ids_T in enumerate(prefixes)]
            )

    def step(self, ids_B: Tensor, anew: Mapping[int, Tensor] | None = None) -> Tensor:
        anew = anew or {}
        self.advance(ids_B, anew)
        with evaluating(self._model):
            return torch.cat([self._row_step(i, ids_B[i : i + 1], anew.get(i)) for i in range(len(ids_B))])

    def _row_step(self, i: int, ids_1: Tensor, anew_T: Tensor | None) -> Tensor:
        row = self._rows[i]
        if i in self._retired:
            return row.logits
        return row.step(ids_1) if anew_T is None else row.read(anew_T[None], self.conditions[i : i + 1])


class _Row:
    """Keeps keys and values of every position for the latents to read, and those of the latents for each other.

    Every half of the latents' number of symbols, the latents begin anew at the positions that `forward` has there.
    """

    logits: Tensor
    """The last that were given, (1, V)."""

    def __init__(self, model: PerceiverAR, capacity: int) -> None:
        self._model, self._capacity = model, capacity
        stack = model.config.stack
        like = next(model.parameters())
        self._read = LayerCache.empty(1, stack.heads, capacity, stack.dim // stack.heads, like)
        self._caches = model.stack.caches(1, model.config.latents)
        self._length = 0
        self._recent_BSD: Tensor
        """What stands at the last positions, as many as the next latents may begin with."""

    def read(self, ids_BT: Tensor, condition_B: Tensor) -> Tensor:
        """Forget everything, and read a prefix: (1, T), (1,) -> (1, V)."""
        length = self._length = ids_BT.shape[1]
        self._read.clear()
        input_BSD = self._model.embedder(ids_BT, condition_B)
        self._read.append(*self._model.reader.keys_and_values(input_BSD, 0))
        first = max(length // self._model.stride - 1, 0) * self._model.stride
        self._recent_BSD = input_BSD[:, -self._model.stride :]
        return self._new_latents(input_BSD[:, first:], length)

    def step(self, ids_B: Tensor) -> Tensor:
        """Read one more symbol: (1,) -> (1, V)."""
        self._length = length = self._length + 1
        input_B1D = self._model.embedder.after(ids_B[:, None], length)
        self._read.append(*self._model.reader.keys_and_values(input_B1D, length))
        before_BSD = self._recent_BSD
        self._recent_BSD = torch.cat([before_BSD, input_B1D], dim=1)[:, -self._model.stride :]
        if length % self._model.stride == 0:
            return self._new_latents(torch.cat([before_BSD, input_B1D], dim=1), length)
        return self._latents(input_B1D, length)

    def _new_latents(self, input_BMD: Tensor, length: int) -> Tensor:
        for cache in self._caches:
            cache.clear()
        return self._latents(input_BMD, length)

    def _latents(self, input_BMD: Tensor, length: int) -> Tensor:
        """Logits after the last of M latents, which follow those in the caches: (B, M, D) -> (B, V).

        length: symbols read, so that the last latent stands where the next symbol will.
        """
        first = length + 1 - input_BMD.shape[1]
        begin = length - length % self._model.stride
        oldest = self._model.stretch_at(begin, self._capacity).oldest
        keys_BHSE, values_BHSE = (held_BHSE[:, :, oldest:] for held_BHSE in self._read.held())
        read_BMD = self._model.reader(input_BMD, first, keys_BHSE, values_BHSE)
        self.logits = self._model.embedder.to_logits(self._model.stack(read_BMD, self._caches)[:, -1])
        return self.logits
